"""The topics: their names and their configuration."""

from enum import StrEnum

_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1"}
_DAY_MS = 86_400_000
# Compaction may drop a tombstone only after every reader had time to read it: a week.
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
    DELIVERIES = "spend.deliveries"

    def named(self, prefix: str) -> str:
        """The topic's name in a shared cluster: the prefix, then the name."""
        return prefix + self.value


PARTITIONED = (Topic.USAGE, Topic.TOTALS, Topic.SIGNALS)
"""These share the load; the others are small and have one partition, so that they keep one order."""

COMPACTED = (
    *(Topic.TOTALS, Topic.OPENINGS, Topic.BUDGETS, Topic.SIGNALS),
    *(Topic.OBJECTS, Topic.DELIVERIES),
)
"""Compacted topics keep only the latest record per key, so their logs have holes."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_DEAD_LETTER_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""Less than the limit of the topic for dead letters, by more than a record's overhead."""

CONFIG: dict[Topic, dict[str, str]] = {
    # The broker's clock stamps the record. Retention by an event's own, possibly old, time would
    # delete it at once (OpenMeter #5005), and the stream needs a clock that gateways cannot set.
    Topic.USAGE: {"message.timestamp.type": "LogAppendTime", "retention.ms": str(35 * _DAY_MS)},
    Topic.TOTALS: _COMPACTED,
    Topic.OPENINGS: _COMPACTED,
    Topic.BUDGETS: _COMPACTED,
    Topic.SIGNALS: _COMPACTED,
    Topic.ALERTS: {"retention.ms": str(35 * _DAY_MS)},
    # Makers are needed until an object is billed: BILLED_WITHIN, and some days for its work.
    Topic.OBJECTS: {**_COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(45 * _DAY_MS)},
    # What the relay has sent may be forgotten once the alert itself is gone.
    Topic.DELIVERIES: {**_COMPACTED, "cleanup.policy": "compact,delete", "retention.ms": str(36 * _DAY_MS)},
    Topic.DECISIONS: {"retention.ms": str(35 * _DAY_MS)},
    # A dead letter holds a whole record, perhaps in base64, so it is larger than one.
    Topic.DEAD_LETTERS: {**_FOR_EVER, "max.message.bytes": str(MAX_MESSAGE_BYTES)},
}
