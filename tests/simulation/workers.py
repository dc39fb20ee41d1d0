"""The stream's and the sink's processes: the real meter and judge, between effects that a crash may part.

Each `step` does at most one effect: one append of some records to one log, or one commit. The order
of the effects is that of the stream's processor.py. What is stored "beside" the tallies may come in any
interleaving, each log in its own order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal
from spendmeter.contract.total import HISTORY
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.domain.writers import ForeignProducer, check_writer
from spendmeter.values.dimensions import Dimension, field_of
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.opening_balance.balance import Balances, Row
from spendmeter_sinks.opening_balance.pending_backfills import (
    BackfillRequest,
    PendingBackfills,
    closing_key,
    closing_of,
    is_covered,
)
from spendmeter_stream.faust.store import VersionedStore
from spendmeter_stream.judge.judge import Evaluation, Judge
from spendmeter_stream.meter.counting_starts import opening_records
from spendmeter_stream.meter.meter import FoldResult, Meter, UsageRecord
from spendmeter_stream.state import OPENING, ChangelogEntry
from tests.simulation.broker import KEYS, PARTITIONS, Broker, Stored, partition_of, placed
from tests.simulation.checks import check_folded

MAX_BATCH = 6
BEGINS_ANEW = 0.05
UNHEARD = 0.3
T = TypeVar("T")


class Log(Protocol):
    """Something that records are appended to."""

    def extend(self, records: Iterable[Any], /) -> None: ...


class Fenced(Exception):
    """Another process owns the partition, and this one has noticed."""


@dataclass(frozen=True)
class Parts:
    """What the schedule runs; a mutation exchanges one of them."""

    meter: type[Meter] = Meter
    judge: type[Judge] = Judge
    store: type[VersionedStore] = VersionedStore
    meter_writes: str = "openings first, then tallies"
    commits: str = "after storing"
    alerts: str = "before remembering"
    sender: str = "in order"
    resends: str = "told"
    own_spend: str = "under the watermark is forgotten"
    own_windows: str = "apart"
    answers: str = "until they are logged"
    refusals: str = "heeded"
    acknowledges: str = "own events only"
    history: str = "first copy"
    catches_up: bool = True
    balances: type[Balances] = Balances
    fills: str = "what history has passed"
    checks_writers: str = "meter and history"
    closes: str = "after the totals"


def restored(parts: Parts, log: Sequence[ChangelogEntry], partition: int) -> list[tuple[bytes, bytes]]:
    """What the real store makes of a changelog partition."""
    store = object.__new__(parts.store)
    store.__post_init__()
    for entry in log:
        store._put(partition, *entry)
    return list(store.entries(partition))


class Worker:
    """A process that may be stopped for ever, or for a while, between any two effects."""

    group: ClassVar[str]

    def __init__(self, partition: int, broker: Broker, parts: Parts, random: Random) -> None:
        self.partition, self.broker = partition, broker
        self.parts, self.random = parts, random
        self.generation = broker.join(self.group, partition)
        self.position = broker.committed.get((self.group, partition), 0)
        self.begins_anew = self.position > 0 and broker.chance.random() < BEGINS_ANEW
        """Its group's offsets have expired, or are not heard of: all is read again."""
        if self.begins_anew:
            self.position = 0
        self.is_busy = False
        self.steps = self.run()

    def run(self) -> Iterator[None]:
        raise NotImplementedError

    @property
    def source(self) -> Sequence[Any]:
        return self.broker.usage[self.partition]

    @property
    def is_at_rest(self) -> bool:
        return not self.is_busy and self.position == len(self.source)

    def step(self) -> None:
        next(self.steps)

    def end(self) -> None:
        """Finish what is under way, as a process does that was frozen and wakes up, and begin nothing new."""
        if not self.is_busy:
            raise Fenced
        self.step()

    def is_counted(self, stored: Stored) -> bool:
        """Whether a record of spend.usage is an event, and of who it says it is."""
        if stored.event is None:
            return False
        if self.group not in self.parts.checks_writers:
            return True
        record = placed(self.partition, stored.event, stored.signature)
        if self.parts.checks_writers.endswith("wherever they stand"):
            record = record._replace(partition=partition_of(stored.event.key))
        try:
            check_writer(record, stored.event, stored.appended_at, KEYS)
        except ForeignProducer:
            return False
        return True

    def take(self, log: Sequence[T]) -> Sequence[T]:
        count = self.random.randint(1, MAX_BATCH)
        batch = log[self.position : self.position + count]
        self.position += len(batch)
        return batch

    def commit(self) -> None:
        if not self.broker.commit(self.group, self.partition, self.generation, self.position):
            raise Fenced

    def store(self, *appends: tuple[Log, Sequence[Any]]) -> Iterator[None]:
        """Append to several logs at once: each in its order, in any interleaving, a few records at a time."""
        left = [(log, list(records)) for log, records in appends if records]
        while left:
            log, records = self.random.choice(left)
            count = self.random.randint(1, len(records))
            log.extend(records[:count])
            del records[:count]
            left = [pair for pair in left if pair[1]]
            yield


class MeterWorker(Worker):
    """One partition of spend.usage."""

    group = "meter"

    def __init__(self, partition: int, broker: Broker, parts: Parts, random: Random) -> None:
        log = broker.changelog("meter", partition)
        self.meter = parts.meter.restore(partition, restored(parts, log, partition))
        self.opened_for = -1
        super().__init__(partition, broker, parts, random)

    @property
    def is_at_rest(self) -> bool:
        return super().is_at_rest and self.opened_for == self.broker.book.edition

    def run(self) -> Iterator[None]:
        broker, parts, meter = self.broker, self.parts, self.meter
        changelog = broker.changelog("meter", self.partition)
        # Whoever was here before may have stored openings and died before it told them.
        self.is_busy = True
        yield from self.store((broker.openings, list(opening_records(meter.openings(), self.partition))))
        self.is_busy = False
        # Whoever stood still meanwhile, and has a successor, begins nothing new.
        yield
        while True:
            edition = broker.book.edition
            if opened := meter.open(broker.book, self.position):
                self.is_busy = True
                yield from self.store_openings(changelog, opened)
                self.is_busy = False
                # Here, too: the next round looks at the clock before it folds (processor.py).
                yield
            self.opened_for = edition
            before = self.position
            batch = self.take(broker.usage[self.partition])
            if batch:
                self.is_busy = True
                if parts.commits == "before storing":
                    self.commit()
                    yield
                usages = [
                    UsageRecord(
                        before + n, stored.appended_at, stored.event if self.is_counted(stored) else None
                    )
                    for n, stored in enumerate(batch)
                ]
                folded = meter.fold(usages, broker.book)
                check_folded(broker, self.partition, folded)
                yield
                yield from self.store_folded(changelog, folded)
                self.is_busy = False
            elif self.random.random() < 0.1:
                tombstones, _ = meter.expire(broker.book)
                yield from self.store((changelog, tombstones))
                closed = [entry for entry in tombstones if entry.key.startswith(OPENING)]
                yield from self.store((broker.openings, list(opening_records(closed, self.partition))))
            if self.random.random() < 0.5:
                self.commit()
            yield

    def store_folded(self, changelog: list[ChangelogEntry], folded: FoldResult) -> Iterator[None]:
        totals = [
            (log, [t for t in folded.totals if partition_of(t.account) == p])
            for p, log in enumerate(self.broker.totals)
        ]
        if self.parts.meter_writes == "openings last":
            yield from self.store(*totals)
            yield from self.store((changelog, [*folded.entries, *folded.openings]))
            return
        yield from self.store_openings(changelog, folded.openings)
        yield from self.store((changelog, folded.entries), *totals)

    def store_openings(self, changelog: list[ChangelogEntry], opened: list[ChangelogEntry]) -> Iterator[None]:
        yield from self.store((changelog, opened))
        yield from self.store((self.broker.openings, list(opening_records(opened, self.partition))))


class JudgeWorker(Worker):
    """One partition of spend.totals, with a view of the budgets that may lag."""

    group = "judge"

    def __init__(self, partition: int, broker: Broker, parts: Parts, random: Random) -> None:
        self.book = BudgetBook()
        self.budgets_read = 0
        log = broker.changelog("judge", partition)
        self.judge = parts.judge.restore(restored(parts, log, partition))
        self.may_expire = True
        super().__init__(partition, broker, parts, random)
        # Before anything is judged, and compacted: what was removed long ago is not heard of.
        for budget in broker.book:
            self.book.put(budget)
        self.budgets_read = len(broker.budgets)

    @property
    def source(self) -> Sequence[Any]:
        return self.broker.totals[self.partition]

    def finish(self) -> None:
        """Tell what was waiting for its time."""
        self.may_expire = False
        self.step()
        while self.is_busy:
            self.step()

    def read_budgets(self, count: int) -> None:
        for budget_id, budget in self.broker.budgets[self.budgets_read : self.budgets_read + count]:
            if budget is None:
                self.book.remove(budget_id)
            else:
                self.book.put(budget)
            self.judge.budget_changed(budget_id)
            self.budgets_read += 1

    def run(self) -> Iterator[None]:
        while True:
            self.is_busy = True
            totals = self.take(self.source)
            if any(total.source_partition == HISTORY for total in totals):
                # As processor.py: else a balance of the budget as it is now would be taken for an old one.
                self.read_budgets(len(self.broker.budgets))
            self.judge.apply(totals)
            yield from self.store_judged(self.judge.judge(self.book, self.broker.now))
            if self.may_expire and self.random.random() < 0.2:
                # Totals of a budget may arrive before the budget itself is read.
                if self.parts.catches_up:
                    self.read_budgets(len(self.broker.budgets))
                yield from self.store_judged(self.judge.expire(self.book, self.broker.now))
            self.is_busy = False
            if self.random.random() < 0.5:
                self.commit()
            yield

    def store_judged(self, said: Evaluation) -> Iterator[None]:
        broker, alerts = self.broker, self.parts.alerts
        remembered = (broker.changelog("judge", self.partition), said.entries)
        telling = (
            (_Signals(broker, self.partition), [*said.signals, *said.withdrawn]),
            (broker.alerts, said.alerts),
        )
        if alerts == "after remembering":
            yield from self.store(remembered)
            yield from self.store(*telling)
        elif alerts == "beside remembering":
            yield from self.store(*telling, remembered)
        else:
            yield from self.store(*telling)
            yield from self.store(remembered)


@dataclass
class _Signals:
    """One partition of spend.signals, to be appended to; each signal is checked as it is stored."""

    broker: Broker
    partition: int

    def extend(self, told: Iterable[Signal | str]) -> None:
        for signal in told:
            if isinstance(signal, Signal):
                self.broker.append_signal(signal)
            else:
                self.broker.signals[self.partition].append(signal)


@dataclass
class Kept:
    """A row of history: the copy that was stored first, and what its copies cost together."""

    event: UsageEvent
    partition: int
    offset: int
    cost_nanousd: NanoUsd

    def row(self, dimensions: Sequence[Dimension]) -> Row[int]:
        subject = subject_of(self.event)
        values = tuple(getattr(subject, field_of(d)) for d in dimensions)
        occurred_us = to_unix_us(self.event.occurred_at)
        return (self.partition, self.offset, occurred_us, occurred_us, self.cost_nanousd, values)


class HistoryWorker(Worker):
    """ClickHouse and its writer: of an event's copies the first stays."""

    group = "history"

    def __init__(
        self, partition: int, broker: Broker, parts: Parts, random: Random, rows: dict[UUID, Kept]
    ) -> None:
        self.rows = rows
        super().__init__(partition, broker, parts, random)

    def run(self) -> Iterator[None]:
        while True:
            before = self.position
            batch = self.take(self.broker.usage[self.partition])
            self.is_busy = bool(batch)
            for offset, stored in enumerate(batch, before):
                event = stored.event
                if event is None or not self.is_counted(stored):
                    continue
                kept = self.rows.get(event.event_id)
                if kept is None:
                    self.rows[event.event_id] = Kept(event, self.partition, offset, event.cost_nanousd)
                elif self.parts.history == "every copy":
                    kept.cost_nanousd = NanoUsd(kept.cost_nanousd + event.cost_nanousd)
            yield
            self.commit()
            self.is_busy = False
            yield


class FillerWorker(Worker):
    """Takes opening balances from history, as sinks/spendmeter_sinks/opening_balance/backfill.py does."""

    group = "filler"

    def __init__(self, broker: Broker, parts: Parts, random: Random, rows: dict[UUID, Kept]) -> None:
        self.rows = rows
        self.ledger = PendingBackfills()
        self.openings_read = 0
        self.book = BudgetBook(broker.book)
        self.budgets_read = len(broker.budgets)
        self.removed: set[str] = set()
        super().__init__(0, broker, parts, random)

    @property
    def is_at_rest(self) -> bool:
        return (
            not self.is_busy
            and self.openings_read == len(self.broker.openings)
            and self.budgets_read == len(self.broker.budgets)
            and not self.dues()
        )

    def dues(self, is_heard: bool = True) -> list[BackfillRequest]:
        """What can be taken now. A coordinator that has moved says of no partition where history stands."""
        committed = {p: self.broker.committed.get(("history", p), 0) for p in range(PARTITIONS) if is_heard}
        dues = self.ledger.due(self.book, range(PARTITIONS))
        if self.parts.fills == "at once" or (self.parts.fills == "unheard" and not is_heard):
            return dues
        return [due for due in dues if is_covered(due, committed)]

    def read(self) -> None:
        for budget_id, budget in self.broker.budgets[self.budgets_read :]:
            self.budgets_read += 1
            if budget is None:
                self.book.remove(budget_id)
                self.ledger.forget(budget_id)
                self.removed.add(budget_id)
            else:
                self.book.put(budget)
        for key, opening in self.broker.openings[self.openings_read :]:
            self.openings_read += 1
            self.ledger.apply(key, opening)

    def run(self) -> Iterator[None]:
        while True:
            self.read()
            if removed := sorted(self.removed | set(self.ledger.gone(self.book))):
                yield from self.store((self.broker.openings, [(closing_key(b), None) for b in removed]))
                for budget_id in removed:
                    self.ledger.forget(budget_id)
                self.removed -= set(removed)
            if dues := self.dues(is_heard=self.broker.chance.random() >= UNHEARD):
                self.is_busy = True
                yield from self.fill(dues)
                self.is_busy = False
            yield

    def fill(self, dues: list[BackfillRequest]) -> Iterator[None]:
        broker = self.broker
        balances = self.parts.balances(dues, BudgetBook(self.book), broker.now)
        balances.add([kept.row(balances.dimensions) for kept in self.rows.values()])
        yield
        totals = [
            (log, [t for t in balances.totals() if partition_of(t.account) == p])
            for p, log in enumerate(broker.totals)
        ]
        closings = [(log, list(balances.closings())) for log in broker.totals]
        if self.parts.closes == "before the totals":
            yield from self.store(*closings)
        yield from self.store(*totals)
        yield from self.store(*closings)
        yield from self.store((broker.openings, [(closing_of(d).key(), closing_of(d)) for d in dues]))
