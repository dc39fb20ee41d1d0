"""The watcher's metrics."""

from prometheus_client import Counter, Gauge

RUNS = Counter(
    "spendmeter_watch_runs_total", "Runs of checks, by outcome: done, failed.", ["check", "outcome"]
)
PUBLISHED = Counter("spendmeter_watch_alerts_total", "Alerts that were published.", ["check", "kind"])
SECONDS = Gauge("spendmeter_watch_run_seconds", "Duration of the last run.", ["check"])
OVERDUE = Gauge(
    "spendmeter_watch_overdue_seconds",
    "For how long a check has been due and has not come to its end; 0 while it is not due.",
    ["check"],
)
DIFFERENCES = Gauge("spendmeter_reconcile_differences", "Differences that the last comparison found.")
SINCE_EQUAL = Gauge(
    "spendmeter_reconcile_seconds_since_equal",
    "How long ago recorded events, totals, signals and history were last found to be equal.",
)
