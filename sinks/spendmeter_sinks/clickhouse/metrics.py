"""The sink's metrics."""

from prometheus_client import Counter, Gauge

ROWS = Counter("spendmeter_sink_rows_total", "Rows inserted into ClickHouse.", ["table"])
BATCHES = Counter("spendmeter_sink_batches_total", "Inserts that ClickHouse acknowledged.", ["table"])
RETRIES = Counter("spendmeter_sink_retries_total", "Inserts sent again because of an outage.", ["table"])
REFUSALS = Counter(
    "spendmeter_sink_refusals_total", "Inserts that ClickHouse refused for their rows.", ["table"]
)
DEAD_LETTERS = Counter("spendmeter_sink_dead_letters_total", "Records put aside.", ["topic", "reason"])
REPEATED_BILLS = Counter(
    "spendmeter_sink_repeated_bills_total", "Bills of objects that history already has; they are left out."
)
UNKEPT_DEAD_LETTERS = Counter(
    "spendmeter_sink_unkept_letters_total", "Records of spend.dead-letters that could not be kept, skipped."
)
RECOVERED = Counter(
    "spendmeter_sink_recovered_batches_total", "Batches planned by a previous worker, sent again as planned."
)
GONE = Counter(
    "spendmeter_sink_records_gone_total",
    "Records that retention deleted before they were in history.",
    ["topic"],
)
RESTORED = Counter(
    "spendmeter_sink_restored_total",
    "Partitions read again because history had lost rows: it was restored to an earlier state.",
)
LAG = Gauge(
    "spendmeter_sink_lag_records", "Records in Kafka that are not yet in ClickHouse.", ["topic", "partition"]
)
LAG_SECONDS = Gauge(
    "spendmeter_sink_lag_seconds",
    "Age of the oldest record that this worker has read and that is not in ClickHouse; 0 where none waits.",
    ["topic"],
)
OLDEST_WAITING = Gauge(
    "spendmeter_sink_seconds_since_commit",
    "How long records have waited for a commit; 0 while none wait.",
)
