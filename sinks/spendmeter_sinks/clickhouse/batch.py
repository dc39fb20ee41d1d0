"""One topic-partition's records on their way into history, cut into batches. Pure: no clock, no I/O."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter

from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.plan import CommitNote, InsertPlan


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one batch holds; at least one record is always allowed."""

    rows: int
    bytes: int


class PartitionBatches:
    """Cuts the records of a partition into plans: one at a time, each a contiguous range.

    A plan is followed to its end (`finish`), or replaced by a smaller one that begins at the same record
    (`refuse`). A plan inherited from the previous worker is kept exactly, whatever our bounds.
    """

    def __init__(
        self,
        bounds: Bounds,
        position: int | None,
        inherited: InsertPlan | None = None,
        incarnation: str = "",
        stored_last: int | None = None,
        reread: int = 0,
    ) -> None:
        """`incarnation`, `stored_last` and `reread`: see plan.CommitNote."""
        self._bounds = bounds
        self._incarnation = incarnation
        self._stored_last = stored_last
        self._reread = reread
        self._waiting: list[StoredRecord] = []
        # Cumulative bytes read, up to and including each waiting record; and up to the first of them.
        self._bytes_to: list[int] = []
        self._bytes_done = 0
        self._next_read: int | None = None
        self._rows_at_most = bounds.rows
        self.position = position
        """The first offset not yet in history; None before the first record of a new group."""
        self.plan = inherited

    def add(self, records: Sequence[StoredRecord], next_offset: int) -> None:
        """Records by rising offset; reading goes on at `next_offset` (compaction leaves holes)."""
        self._waiting.extend(records)
        taken = self._bytes_to[-1] if self._bytes_to else self._bytes_done
        sizes = [len(record.value or b"") + len(record.key or b"") for record in records]
        self._bytes_to += [*accumulate(sizes, initial=taken)][1:]
        self._next_read = next_offset

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """Bytes of the waiting keys and values."""
        return self._bytes_to[-1] - self._bytes_done if self._bytes_to else 0

    @property
    def oldest_ms(self) -> int | None:
        """The time of the first waiting record, in ms; None if none waits. Any thread."""
        first = self._waiting[:1]
        return first[0].timestamp if first else None

    @property
    def is_full(self) -> bool:
        """Whether a whole batch waits, so that reading more is useless now."""
        if self.plan is not None:
            return self.is_complete
        return len(self._waiting) >= self._rows_at_most or self.bytes >= self._bounds.bytes

    @property
    def is_complete(self) -> bool:
        """Whether everything of the plan that still exists has been read."""
        return self.plan is not None and self._next_read is not None and self._next_read > self.plan.last

    @property
    def has_work(self) -> bool:
        """Whether a plan can be followed now: the present one is read completely, or a new one can be cut."""
        return self.is_complete if self.plan is not None else bool(self._waiting)

    def cut(self) -> InsertPlan | None:
        """The plan to follow now; None while there is nothing to insert (`has_work`)."""
        if not self.has_work:
            return None
        if self.plan is not None:
            return self.plan
        within = bisect_right(self._bytes_to, self._bytes_done + self._bounds.bytes)
        count = max(1, min(within, self._rows_at_most, len(self._waiting)))
        self.plan = self._plan_of(count)
        return self.plan

    def planned(self) -> list[StoredRecord]:
        """The records of the plan: fewer than its range if compaction or retention deleted some."""
        return self._waiting[: self._count_planned()]

    @property
    def next_offset(self) -> int | None:
        """The offset after everything that was read or passed; None before the first."""
        return self.position if self._next_read is None else self._next_read

    def pass_over(self, next_offset: int) -> None:
        """Skip to `next_offset`: before it only transaction markers or deleted records are left.

        It skips only what follows everything read so far, and does nothing while
        records wait or a plan is in progress.
        """
        if self.plan is None and not self._waiting and (self.position is None or self.position < next_offset):
            self.position = self._next_read = next_offset

    def finish(self, stored_last: int | None = None) -> None:
        """Continue after the plan: its records are in history, or are dead letters.

        `stored_last`: the highest offset among them for which history now has a row.
        """
        assert self.plan is not None, "nothing is planned"
        if stored_last is not None:
            self._stored_last = stored_last
        done = self._count_planned()
        if done:
            self._bytes_done = self._bytes_to[done - 1]
        del self._waiting[:done], self._bytes_to[:done]
        self.position = self.plan.last + 1
        self.plan = None
        # After a refusal the batches grow again, so that many bad records stay cheap.
        self._rows_at_most = min(self._rows_at_most * 2, self._bounds.rows)

    def refuse(self) -> bool:
        """Plan the first half after ClickHouse refused a row of the plan. False if the plan is one record."""
        count = self._count_planned()
        if count <= 1:
            return False
        self._rows_at_most = count // 2
        self.plan = self._plan_of(self._rows_at_most)
        return True

    def forget_plan(self) -> None:
        """Shorten the plan to the end of the log: its records are gone from Kafka and cannot be
        read again.
        """
        self.plan = None

    def note(self) -> CommitNote:
        """The note to commit beside the offset now."""
        return CommitNote(self._incarnation, self.plan, self._stored_last, self._reread)

    def committable(self) -> tuple[int, str] | None:
        """The offset and metadata to commit now; None if there are none yet."""
        note = self.note().metadata()
        if self.plan is not None:
            return self.plan.first, note
        return None if self.position is None else (self.position, note)

    def _plan_of(self, count: int) -> InsertPlan:
        first, last = self._waiting[0], self._waiting[count - 1]
        return InsertPlan(first.offset, last.offset, first.timestamp, self._incarnation, self._reread)

    def _count_planned(self) -> int:
        assert self.plan is not None, "nothing is planned"
        return bisect_right(self._waiting, self.plan.last, key=_offset)


_offset = attrgetter("offset")
