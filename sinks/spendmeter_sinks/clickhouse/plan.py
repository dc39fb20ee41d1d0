"""The plan: the offsets of the next insert, stored in Kafka before the insert is sent. Pure.

docs/decisions/0002-the-sink-writes-its-plan-first.md says why.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InsertPlan:
    """The records `first` … `last` of one topic-partition, both included, are one insert."""

    first: int
    last: int
    stamp_ms: int
    """Kafka timestamp of the first record: distinguishes a topic from a deleted one of the same name."""
    incarnation: str = ""
    """The topic's; empty in plans of versions without incarnations."""
    reread: int = 0
    """How often history lost rows and was filled again: ClickHouse may still know the tokens of the lost
    rows.
    """

    def token(self, topic: str, partition: int) -> str:
        """ClickHouse's insert_deduplication_token: the same plan always gives the same one."""
        where = f"{topic}/{self.incarnation}" if self.incarnation else topic
        again = f"+{self.reread}" if self.reread else ""
        return f"{where}:{partition}:{self.first}-{self.last}@{self.stamp_ms}{again}"


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What a sink commits for a partition beside its offset."""

    incarnation: str = ""
    """The incarnation that the offset belongs to."""
    plan: InsertPlan | None = None
    stored_last: int | None = None
    """The highest offset for which ClickHouse had acknowledged a row."""
    reread: int = 0
    """As in a plan."""

    def metadata(self) -> str:
        """As text beside the committed offset, which is the first of the plan if there is one."""
        fields: dict[str, str | int] = {}
        if self.plan is not None:
            fields |= {"planned_last": self.plan.last, "stamp_ms": self.plan.stamp_ms}
        if self.incarnation:
            fields["incarnation"] = self.incarnation
        if self.stored_last is not None:
            fields["stored_last"] = self.stored_last
        if self.reread:
            fields["reread"] = self.reread
        return json.dumps(fields) if fields else ""


def is_of_before_incarnations(committed: Iterable[tuple[int, str]]) -> bool:
    """Whether any of them was committed, with its metadata, by a version without incarnations."""
    return any(offset > 0 and not read_commit_note(offset, said).incarnation for offset, said in committed)


def read_commit_note(offset: int, metadata: str) -> CommitNote:
    """The note committed with that offset; an empty one if the text is not ours."""
    try:
        fields = json.loads(metadata)
        incarnation, stored = str(fields.get("incarnation", "")), fields.get("stored_last")
        plan, reread = None, int(fields.get("reread", 0))
        if "planned_last" in fields:
            plan = InsertPlan(
                offset, int(fields["planned_last"]), int(fields["stamp_ms"]), incarnation, reread
            )
    except (ValueError, TypeError, KeyError, AttributeError):
        return CommitNote()
    is_plan = plan is not None and plan.last >= plan.first
    return CommitNote(incarnation, plan if is_plan else None, None if stored is None else int(stored), reread)
