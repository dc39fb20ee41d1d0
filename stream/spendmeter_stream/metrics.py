"""What the stream measures about itself."""

import time
from collections.abc import Callable, Collection
from functools import partial

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
LAG = Gauge(
    "spendmeter_stream_lag_seconds",
    "Age of the oldest record that this worker has not worked off; 0 where none waits.",
    ["topic", "partition"],
)


class StreamLag:
    """Since when the oldest record of each source partition has waited. Times are Kafka's, in ms."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since_ms: dict[tuple[str, int], int | None] = {}

    def waits(self, topic: str, partition: int, since_ms: int) -> None:
        """A record of that time waits; it is the oldest of its partition."""
        if (topic, partition) not in self._since_ms:
            seconds = partial(self._seconds, topic, partition)
            LAG.labels(topic, str(partition)).set_function(seconds)
        self._since_ms[topic, partition] = since_ms

    def nothing_waits(self, but_in: Collection[tuple[str, int]]) -> None:
        """In no other partition than these a record waits."""
        for where in self._since_ms.keys() - set(but_in):
            self._since_ms[where] = None

    def clear(self) -> None:
        """The partitions have another owner."""
        self._since_ms.clear()
        LAG.clear()

    def _seconds(self, topic: str, partition: int) -> float:
        since_ms = self._since_ms.get((topic, partition))
        return 0.0 if since_ms is None else max(0.0, self._clock() - since_ms / 1_000)
