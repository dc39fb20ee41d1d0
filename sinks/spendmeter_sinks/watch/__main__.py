"""`python -m spendmeter_sinks.watch`: the watcher, as the local stack starts it."""

from spendmeter_sinks.watch.command import watch

if __name__ == "__main__":
    watch()
