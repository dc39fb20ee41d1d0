"""The plan: which offsets the next insert holds, fixed in Kafka before the insert is sent. Pure.

docs/decisions/0002-the-sink-writes-its-plan-first.md says why.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The records `first` … `last` of one topic-partition, both included, are one insert."""

    first: int
    last: int
    stamp_ms: int
    """Kafka timestamp of the first record: tells a topic from its namesake that was deleted."""

    def token(self, topic: str, partition: int) -> str:
        """ClickHouse's insert_deduplication_token: the same plan always gives the same one."""
        return f"{topic}:{partition}:{self.first}-{self.last}@{self.stamp_ms}"

    def metadata(self) -> str:
        """The plan as text beside a committed offset, which is `first`."""
        return json.dumps({"planned_last": self.last, "stamp_ms": self.stamp_ms})


def read_plan(offset: int, metadata: str) -> Plan | None:
    """The plan that was committed with that offset, None where the text is none of ours."""
    try:
        fields = json.loads(metadata)
        plan = Plan(offset, int(fields["planned_last"]), int(fields["stamp_ms"]))
    except (ValueError, TypeError, KeyError):
        return None
    return plan if plan.last >= plan.first else None
