"""The meter: adds usage events up to what each account has spent in each window. Pure.

There is one meter per source partition. It promises the following, whatever is replayed, resent or reordered
between partitions:

- A record is counted once. Each partition sum carries the offset that it has reached (the guard), so a replay
  after a crash adds nothing, even if the crash fell between two changelog writes.
- A resent event is counted once. Per producer and partition `seq` only rises, so a `seq` that is not
  above the last one seen is a resend.
- A provider object is counted once, whoever sends its bill. All copies are on one partition, and
  the first is remembered like the first record of a producer.
- Everything that a partition sum does not hold is below its `first_offset` and belongs to the opening
  balance.
- A budget whose values clients invent has a bounded number of accounts in a window. The spend of further
  values is added up in one account (decisions/0016).
- An event that costs an account nothing opens no account and changes none.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import Total, total_key
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import construct_unchecked
from spendmeter.domain.charge import cost_for, costs_nothing, flats_of
from spendmeter.domain.matching import Account, BudgetBook, rest_account
from spendmeter.domain.window import KEEP_CLOSED_WINDOWS, Window
from spendmeter.values.account import budget_id_of, has_subject
from spendmeter.values.times import format_time, from_unix_us, to_unix_us
from spendmeter_stream.meter.counting_starts import CountingStarts
from spendmeter_stream.meter.window_cache import CountedWindow, CountedWindowCache
from spendmeter_stream.state import (
    OPENING,
    POSITION,
    PRODUCER,
    TALLY,
    ChangelogEntry,
    CounterKey,
    CountingStart,
    PartitionSum,
    ProducerSequence,
)


class UsageRecord(NamedTuple):
    """A record of the source partition; no event if it was a dead letter."""

    offset: int
    appended_at: datetime
    event: UsageEvent | None


class HighWatermark(NamedTuple):
    """An offset, and a time after which no record up to it was appended."""

    offset: int
    latest: datetime


class TopicRecreated(Exception):
    """Offsets folded before now hold other, newer records; treated as a replay, these would be lost."""


def refuse_if_recreated(partition: int, passed: HighWatermark, batch: Iterable[UsageRecord]) -> None:
    """Check that a replay is one. Raises TopicRecreated."""
    for record in batch:
        if record.offset > passed.offset:
            return
        if record.appended_at > passed.latest:
            raise TopicRecreated(
                f"spend.usage[{partition}] was deleted and created anew: offset {record.offset} was appended"
                f" at {format_time(record.appended_at)}, but everything up to {passed.offset} was appended by"
                f" {format_time(passed.latest)}, so its records would count as a replay"
            )


# Longer than spend.usage keeps its records and than an outbox waits: no resend comes after that.
KEEP_PRODUCERS = timedelta(days=40)
OBJECT = "object/"
"""An object is remembered as a producer of one record. No outbox or correction has such an id."""


@dataclass
class FoldResult:
    """What a batch changed, in the order in which it must be written."""

    openings: list[ChangelogEntry] = field(default_factory=list)
    """Stored before any total is published: a total rests on its opening."""
    entries: list[ChangelogEntry] = field(default_factory=list)
    """Partition sums, then producers, then the position: in this order a crash between any two is harmless.
    """
    totals: list[Total] = field(default_factory=list)
    unpriced: list[UsageEvent] = field(default_factory=list)
    doubted: list[UsageEvent] = field(default_factory=list)
    """Events whose cost is not the one that LiteLLM reported."""
    counted: int = 0
    resent: int = 0
    replayed: int = 0
    capped: int = 0
    """Values without an account of their own."""


class Meter:
    """The state of one source partition."""

    def __init__(self, partition: int, max_accounts: int = 0, incarnation: str = "") -> None:
        """`max_accounts`: per budget and window, if clients invent the values; 0 is no bound.

        `incarnation`: the one of the topic that this meter folds.
        """
        self.partition = partition
        self.incarnation = incarnation
        self.folded_incarnation = ""
        """The incarnation folded so far; empty before the first record, and for state of older versions."""
        self._max_accounts = max_accounts
        self._accounts: Counter[tuple[str, datetime, str]] = Counter()
        """Accounts per budget, window and shape, without the one for further values."""
        self._capped = 0
        self.position = -1
        """The last source offset folded."""
        self.tallies: dict[CounterKey, PartitionSum] = {}
        self.producers: dict[str, ProducerSequence] = {}
        self._openings = CountingStarts()
        self._windows: CountedWindowCache | None = None
        self._changed: list[CountedWindow] = []
        """What this batch has changed, in order of change."""
        self._now: datetime | None = None
        self._passed: HighWatermark | None = None
        self._frontier = 0

    @classmethod
    def restore(
        cls,
        partition: int,
        entries: Iterable[tuple[bytes, bytes]],
        max_accounts: int = 0,
        incarnation: str = "",
    ) -> "Meter":
        """Restore the state from the changelog."""
        meter = cls(partition, max_accounts, incarnation)
        for key, value in entries:
            if key.startswith(TALLY):
                where = CounterKey.read(key[len(TALLY) :])
                meter.tallies[where] = PartitionSum.read(value)
                meter._note_account(where, +1)
            elif key.startswith(PRODUCER):
                meter.producers[key[len(PRODUCER) :].decode()] = ProducerSequence.read(value)
            elif key.startswith(OPENING):
                meter._openings.restore(key[len(OPENING) :].decode(), CountingStart.read(value))
            elif key == POSITION:
                meter.position, now, *seen = json.loads(value)
                meter._now = from_unix_us(now)
                # Not the position: below, it may move ahead of what was seen.
                meter._passed = HighWatermark(seen[0], meter._now) if seen and seen[0] >= 0 else None
                meter.folded_incarnation = seen[1] if len(seen) > 1 else ""
        # After a crash before the position was written, the partition sums are ahead of it.
        reached = [tally.last_offset for tally in meter.tallies.values()]
        reached += [progress.offset for progress in meter.producers.values()]
        meter.position = max(meter.position, *reached) if reached else meter.position
        return meter

    def open(self, book: BudgetBook, first_offset: int) -> list[ChangelogEntry]:
        """Begin to count every budget of the book, from the next record on; returns the entries to store.

        `first_offset` is that of the first record that this meter will ever fold, if it has folded none.
        """
        self._openings.follow(book)
        # After everything that may have been folded: before it, a resend cannot be distinguished from a first
        # copy.
        self._openings.open_all(book, self.position + 1 if self.position >= 0 else first_offset)
        changes = self._openings.changes()
        if changes:
            # A window's sum rests on its budget's opening.
            self._windows = None
        return changes

    def openings(self) -> list[ChangelogEntry]:
        """Every opening, as it is stored."""
        return self._openings.entries()

    def fold(self, batch: Sequence[UsageRecord], book: BudgetBook) -> FoldResult:
        """Fold records, in offset order, under the budgets in force; records folded before add nothing.

        Raises:
            TopicRecreated: nothing of the batch was folded.
        """
        if self._passed is not None:
            refuse_if_recreated(self.partition, self._passed, batch)
        folded = FoldResult()
        if batch:
            folded.openings = self.open(book, batch[0].offset)
        if self._windows is None or not self._windows.hold_for(book):
            self._windows = CountedWindowCache(book, partial(self._counted_window, book))
        windows_of, count = self._windows.of, self._count
        seen: set[str] = set()
        for offset, appended_at, event in batch:
            # The records of one chunk share their time, which is one object.
            if appended_at is not self._now and (self._now is None or appended_at > self._now):
                self._now = appended_at
            replayed = offset <= self.position
            if not replayed:
                self.position = offset
            self._frontier = self.position + replayed
            if event is None:
                continue
            resent = self._is_resent(event.producer_id, event.seq, offset, appended_at)
            seen.add(event.producer_id)
            if event.object_id:
                name = OBJECT + event.object_id
                repeated = self._is_resent(name, 1, offset, appended_at)
                seen.add(name)
                resent = None if resent is None or repeated is None else resent or repeated
            if replayed:
                folded.replayed += 1
            elif resent:
                folded.resent += 1
            else:
                folded.counted += 1
            if not resent and flats_of(event) > 0:
                folded.unpriced.append(event)
            if event.cost_doubt and not resent:
                folded.doubted.append(event)
            costs = event.cost_nanousd != 0
            for counted in windows_of(event, offset) if costs else self._windows_at_cost_0(event, offset):
                count(event, counted, offset, resent)
        if batch:
            self.folded_incarnation = self.incarnation
        if self._now is not None and batch:
            passed = self._passed.offset if self._passed is not None else -1
            self._passed = HighWatermark(max(passed, batch[-1].offset), self._now)
        self._write(seen, folded)
        folded.capped, self._capped = self._capped, 0
        return folded

    def _windows_at_cost_0(self, event: UsageEvent, offset: int) -> Sequence[CountedWindow]:
        """The windows in which an event at cost 0 counts: none, except for flat amounts."""
        assert self._windows is not None
        return () if costs_nothing(event) else self._windows.with_flats(event, offset)

    def _is_resent(self, producer: str, seq: int, offset: int, appended_at: datetime) -> bool | None:
        """Whether an earlier copy was stored; None if too much has been seen since to know."""
        progress = self.producers.get(producer)
        if progress is None:
            self.producers[producer] = ProducerSequence(seq, offset, appended_at)
            return False
        if offset <= progress.offset:
            return None
        progress.offset, progress.seen_at = offset, appended_at
        if seq <= progress.seq:
            return True
        progress.seq = seq
        return False

    def _counted_window(
        self, book: BudgetBook, account: Account, window: Window, offset: int
    ) -> CountedWindow:
        """The counted window of an account, first met at that offset."""
        opened, shape = self._openings.open(book, account.budget, self._frontier)
        where = CounterKey(account.name, window.start, shape)
        tally = self.tallies.get(where)
        if tally is None and (rest := self._rest(where, account.budget)) is not None:
            if self._accounts[account.budget.id, window.start, shape] >= self._max_accounts:
                self._capped += 1
                where, tally = rest, self.tallies.get(rest)
            elif (held := self.tallies.get(rest)) is not None:
                # More accounts may be allowed by now, but its spend so far was added up with the rest.
                opened = max(opened, held.last_offset + 1)
        if tally is None or tally.first_offset < opened:
            first = max(opened, offset) if self._is_forgotten(window.end) else opened
            if tally is None:
                self._note_account(where, +1)
            tally = self.tallies[where] = _empty(first, window)
        return CountedWindow(where, account.budget, window, tally)

    def _rest(self, where: CounterKey, budget: Budget) -> CounterKey | None:
        """The key under which further values are added up; None if each has an account."""
        account = rest_account(budget) if self._max_accounts else None
        return None if account is None else where._replace(account=account)

    def _note_account(self, where: CounterKey, change: int) -> None:
        if self._max_accounts and has_subject(where.account):
            at = (budget_id_of(where.account), where.window_start, where.shape)
            self._accounts[at] += change
            if not self._accounts[at]:
                del self._accounts[at]

    def _count(self, event: UsageEvent, counted: CountedWindow, offset: int, resent: bool | None) -> None:
        tally = counted.tally
        if offset <= tally.last_offset:
            # A crash may have fallen between the sum and its total, and no other event may follow.
            if tally.first_offset <= offset and not counted.is_changed:
                self._note(counted)
            return
        if not counted.is_changed:
            self._note(counted)
        if resent is None:
            # Producers are stored after the sums: an event that they have passed is in every sum
            # that was open then. It is not in this one, so this one begins after everything in doubt.
            # It is stored even while empty: a successor would otherwise begin it at the opening.
            counted.tally = self.tallies[counted.where] = _empty(self._frontier, counted.window)
            return
        tally.last_offset = offset
        if not resent:
            tally.spent_nanousd = NanoUsd(tally.spent_nanousd + cost_for(counted.budget, event))
            tally.events += 1
            tally.last_event_id = event.event_id

    def _note(self, counted: CountedWindow) -> None:
        counted.is_changed = True
        self._changed.append(counted)

    def _is_forgotten(self, window_end: datetime | None) -> bool:
        return (
            window_end is not None and self._now is not None and window_end + KEEP_CLOSED_WINDOWS < self._now
        )

    def _write(self, seen: set[str], folded: FoldResult) -> None:
        changed, self._changed = self._changed, []
        for counted in changed:
            counted.is_changed = False
            where, tally = counted.where, counted.tally
            folded.entries.append(ChangelogEntry(TALLY + where.suffix(), tally.value()))
            if tally.last_offset >= tally.first_offset:
                folded.totals.append(total_of(where, tally, self.partition, self.incarnation))
        for producer in sorted(seen):
            folded.entries.append(
                ChangelogEntry(PRODUCER + producer.encode(), self.producers[producer].value())
            )
        if self._now is not None:
            reached: list[int | str] = [self.position, to_unix_us(self._now)]
            if self._passed is not None or self.folded_incarnation:
                reached.append(self._passed.offset if self._passed is not None else -1)
            if self.folded_incarnation:
                reached.append(self.folded_incarnation)
            folded.entries.append(
                ChangelogEntry(POSITION, json.dumps(reached, separators=(",", ":")).encode())
            )

    def expire(self, book: BudgetBook) -> tuple[list[ChangelogEntry], list[str]]:
        """Forget closed windows, idle producers and removed budgets, by the broker's clock.

        Returns the tombstones for the changelog and the keys of the totals to remove.
        """
        if self._now is None:
            return [], []
        # First: no sum may be gone while its opening still says that everything has been counted.
        self._openings.follow(book)
        tombstones = self._openings.changes()
        gone = [where for where, tally in self.tallies.items() if self._is_over(where, tally)]
        for where in gone:
            del self.tallies[where]
            self._note_account(where, -1)
            tombstones.append(ChangelogEntry(TALLY + where.suffix(), None))
        if tombstones:
            self._windows = None
        kept = {where[:2] for where in self.tallies} if gone else set()
        totals = [
            total_key(where.account, where.window_start, self.partition)
            for where in gone
            if where[:2] not in kept
        ]
        for producer in [
            p for p, progress in self.producers.items() if progress.seen_at + KEEP_PRODUCERS < self._now
        ]:
            del self.producers[producer]
            tombstones.append(ChangelogEntry(PRODUCER + producer.encode(), None))
        return tombstones, totals

    def _is_over(self, where: CounterKey, tally: PartitionSum) -> bool:
        """Whether nothing more will be added to a sum."""
        return self._is_forgotten(tally.window_end) or not self._openings.has(
            budget_id_of(where.account), where.shape
        )


def _empty(first_offset: int, window: Window) -> PartitionSum:
    return PartitionSum(NanoUsd(0), 0, first_offset, first_offset - 1, None, window.end)


def total_of(where: CounterKey, tally: PartitionSum, partition: int, incarnation: str = "") -> Total:
    """The total that carries a partition sum to the judge."""
    return construct_unchecked(
        Total,
        {
            "account": where.account,
            "window_start": where.window_start,
            "source_partition": partition,
            "spent_nanousd": tally.spent_nanousd,
            "events": tally.events,
            "first_offset": tally.first_offset,
            "last_offset": tally.last_offset,
            "last_event_id": tally.last_event_id,
            "before": None,
            "shape": where.shape,
            "revision": 0,
            "incarnation": incarnation,
        },
    )
