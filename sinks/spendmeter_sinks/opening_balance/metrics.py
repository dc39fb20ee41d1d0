"""What opening balances tell about themselves."""

from prometheus_client import Counter, Gauge

TAKEN = Counter("spendmeter_openings_taken_total", "Opening balances taken from history.")
WAITING = Gauge("spendmeter_openings_waiting", "Budgets that wait for their opening balance.")
