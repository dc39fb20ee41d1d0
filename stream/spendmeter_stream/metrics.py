"""What the stream measures about itself."""

from prometheus_client import Counter, Gauge

EVENTS = Counter("spendmeter_stream_events_total", "Usage events read, by outcome.", ["outcome"])
POSITION = Gauge("spendmeter_stream_position", "Last offset of spend.usage that was folded.", ["partition"])
SIGNALS = Counter("spendmeter_stream_signals_total", "Budget signals sent.")
ALERTS = Counter("spendmeter_stream_alerts_total", "Alerts sent.", ["kind"])
DOUBTED = Counter(
    "spendmeter_stream_doubted_total", "Events whose cost is not the one that LiteLLM reported.", ["reason"]
)
UNPRICED = Counter("spendmeter_stream_unpriced_total", "Served requests whose model has no price.", ["model"])
DEAD_LETTERS = Counter(
    "spendmeter_dead_letters_total",
    "Records that could not be read, kept in spend.dead-letters.",
    ["topic", "reason"],
)
CAPPED = Counter(
    "spendmeter_stream_capped_total",
    "Values without an account of their own: their budget already has as many as a worker keeps.",
)
OPENING = Gauge(
    "spendmeter_stream_budgets_opening",
    "Budgets without their opening balance: their signals lack what was spent before they were counted.",
)
REFUSED_ENTRIES = Counter(
    "spendmeter_stream_changelog_records_refused_total",
    "Skipped changelog records that no stream worker wrote.",
)
GAPS = Counter(
    "spendmeter_stream_records_gone_total", "Source records that retention deleted before they were read."
)
