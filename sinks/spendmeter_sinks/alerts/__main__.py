"""`python -m spendmeter_sinks.alerts`: the relay, as the local stack starts it."""

from spendmeter_sinks.alerts.command import relay_alerts

if __name__ == "__main__":
    relay_alerts()
