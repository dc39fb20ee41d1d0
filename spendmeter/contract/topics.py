"""The topics: what each is called and how it must be configured."""

from enum import StrEnum

_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1"}
_DAY_MS = 86_400_000
# Compaction may only drop what every reader has had time to read; tombstones stay a week.
_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(6 * 3_600_000),
    "delete.retention.ms": str(7 * _DAY_MS),
}


class Topic(StrEnum):
    USAGE = "spend.usage"
    TOTALS = "spend.totals"
    OPENINGS = "spend.openings"
    BUDGETS = "spend.budgets"
    SIGNALS = "spend.signals"
    ALERTS = "spend.alerts"
    DECISIONS = "spend.decisions"
    DEAD_LETTERS = "spend.dead-letters"
    OBJECTS = "spend.objects"

    def named(self, prefix: str) -> str:
        """The topic's name in a cluster that is shared: the prefix, then the name."""
        return prefix + self.value


PARTITIONED = (Topic.USAGE, Topic.TOTALS, Topic.SIGNALS)
"""These share the load; the others are small and have one partition, so that they keep one order."""

COMPACTED = (Topic.TOTALS, Topic.OPENINGS, Topic.BUDGETS, Topic.SIGNALS)
"""Of these only the latest record per key is kept, so their logs have holes."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""Less than the topic of dead letters takes, by more than what goes around a record."""

CONFIG: dict[Topic, dict[str, str]] = {
    # The broker's clock stamps the record: retention by an event's own, possibly old, time would
    # reap it at once (OpenMeter #5005), and the stream needs a clock that gateways cannot set.
    Topic.USAGE: {"message.timestamp.type": "LogAppendTime", "retention.ms": str(35 * _DAY_MS)},
    Topic.TOTALS: _COMPACTED,
    Topic.OPENINGS: _COMPACTED,
    Topic.BUDGETS: _COMPACTED,
    Topic.SIGNALS: _COMPACTED,
    Topic.ALERTS: {"retention.ms": str(35 * _DAY_MS)},
    # Nobody asks who made what was billed long ago: BILLED_WITHIN, and some days in the making.
    Topic.OBJECTS: {**_COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(45 * _DAY_MS)},
    Topic.DECISIONS: {"retention.ms": str(35 * _DAY_MS)},
    # A dead letter holds a whole record and may be base64, hence larger than one.
    Topic.DEAD_LETTERS: {**_FOR_EVER, "max.message.bytes": str(MAX_MESSAGE_BYTES)},
}
