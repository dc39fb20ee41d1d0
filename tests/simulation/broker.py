"""What outlives every crash: the logs, the committed offsets, the clock, and the truth about every event."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.alert import Alert
from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal
from spendmeter.contract.signing import SIGNATURE, Placed, SigningKeys
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, Subject, subject_of
from spendmeter.domain.window import Window
from spendmeter.values.account import subject_in
from spendmeter_stream.state import ChangelogEntry
from tests.builders import NOON

PARTITIONS = 2


def partition_of(key: str) -> int:
    """Where a key's records go; that it is always the same is all that matters here."""
    return sum(key.encode()) % PARTITIONS


@dataclass(slots=True)
class Recorded:
    """An event that some gateway recorded: it must be counted exactly once, everywhere."""

    event: UsageEvent
    subject: Subject
    partition: int
    offset: int | None = None
    """Of the copy that was stored first."""


class Truth:
    """Every event that was ever recorded; the oracle knows no stream and no gateway."""

    def __init__(self) -> None:
        self.recorded: dict[UUID, Recorded] = {}
        self._order: list[Recorded] = []
        self._by_account: dict[str, tuple[list[int], list[Recorded]]] = {}

    def record(self, event: UsageEvent) -> None:
        recorded = Recorded(event, subject_of(event), partition_of(event.key))
        self.recorded[event.event_id] = recorded
        self._order.append(recorded)

    def stored(self, event: UsageEvent, offset: int) -> None:
        recorded = self.recorded[event.event_id]
        if recorded.offset is None:
            recorded.offset = offset

    def of(self, account: str) -> list[Recorded]:
        """The events of an account, whatever their window. What costs nothing is none of it."""
        seen, found = self._by_account.setdefault(account, ([0], []))
        if seen[0] < len(self._order):
            wanted = subject_in(account).items()
            for recorded in self._order[seen[0] :]:
                values = recorded.subject.values
                if recorded.event.cost_nanousd and all(value in values(dim) for dim, value in wanted):  # type: ignore[arg-type]
                    found.append(recorded)
            seen[0] = len(self._order)
        return found

    def in_window(self, account: str, window: Window) -> Iterator[Recorded]:
        return (r for r in self.of(account) if window.holds(r.event.occurred_at))


class Stored(NamedTuple):
    appended_at: datetime
    event: UsageEvent | None
    """None where the record cannot be read."""
    signature: bytes | None = None


KEYS = SigningKeys(["k" * 32])
"""Those of the gateways; whoever else writes has none."""


def placed(partition: int, event: UsageEvent, signature: bytes | None = None) -> Placed:
    """The record of an event, as far as it is signed."""
    headers = [] if signature is None else [(SIGNATURE, signature)]
    return Placed(
        "spend.usage", partition, event.key.encode(), f"{event.event_id}/{event.seq}".encode(), headers
    )


@dataclass
class Broker:
    """Kafka as far as the promises rest on it: ordered logs, atomic appends, fenced commits."""

    now: datetime = NOON
    truth: Truth = field(default_factory=Truth)
    usage: list[list[Stored]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    totals: list[list[Total]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    openings: list[tuple[str, Opening | None]] = field(default_factory=list)
    signals: list[list[Signal | str]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    """A tombstone is the account's name."""
    alerts: list[Alert] = field(default_factory=list)
    budgets: list[tuple[str, Budget | None]] = field(default_factory=list)
    book: BudgetBook = field(default_factory=BudgetBook)
    """What a reader that has caught up with `budgets` holds."""
    changelogs: dict[tuple[str, int], list[ChangelogEntry]] = field(default_factory=dict)
    committed: dict[tuple[str, int], int] = field(default_factory=dict)
    generations: dict[tuple[str, int], int] = field(default_factory=dict)
    counts_from: dict[str, list[int]] = field(default_factory=dict)
    """Per budget: the ends of `usage` when what it counts changed last; all that came after is counted."""
    disturbed: set[int] = field(default_factory=set)
    """Partitions into whose changelog two meters wrote at once."""
    allowed: dict[tuple[str, datetime], int] = field(default_factory=dict)
    """Per account and window: what may be spent at the most, by what each admission could not know."""
    on_signal: Callable[[Signal], None] = lambda _: None
    chance: Random = field(default_factory=Random)
    """Of what the cluster does wrong: apart, so that a schedule without that stays as it was."""

    def begin_of(self, budget_id: str, partition: int, claimed: int | None = None) -> int:
        """From which offset on everything must be counted under the budget.

        Where two meters wrote at once while the budget was new, only what is claimed can be demanded:
        from `claimed` on, or nothing. What lies before is the opening balance's.
        """
        begins = self.counts_from[budget_id]
        if partition not in self.disturbed or not any(begins):
            return begins[partition]
        return max(begins[partition], len(self.usage[partition]) if claimed is None else claimed)

    def append_usage(self, partition: int, events: list[UsageEvent]) -> int:
        """One batch, stored whole; returns the offset of its first record."""
        log = self.usage[partition]
        base = len(log)
        for event in events:
            self.truth.stored(event, len(log))
            record = placed(partition, event)
            [(_, signature)] = KEYS.sign(record.topic, partition, record.key, record.value)
            log.append(Stored(self.now, event, signature))
        return base

    def append_foreign(self, partition: int, event: UsageEvent, signature: bytes | None) -> None:
        """What somebody writes who has no key: it must count nowhere."""
        self.usage[partition].append(Stored(self.now, event, signature))

    def append_poison(self, partition: int) -> None:
        self.usage[partition].append(Stored(self.now, None))

    def append_signal(self, signal: Signal) -> None:
        self.on_signal(signal)
        self.signals[partition_of(signal.account)].append(signal)

    def changelog(self, table: str, partition: int) -> list[ChangelogEntry]:
        return self.changelogs.setdefault((table, partition), [])

    def put_budget(self, budget: Budget, counts_anew: bool) -> None:
        if counts_anew:
            self.counts_from[budget.id] = [len(log) for log in self.usage]
        self.budgets.append((budget.id, budget))
        self.book.put(budget)

    def remove_budget(self, budget_id: str) -> None:
        self.budgets.append((budget_id, None))
        self.book.remove(budget_id)

    def join(self, group: str, partition: int) -> int:
        """Take a partition over; whoever had it can no longer commit."""
        self.generations[group, partition] = self.generations.get((group, partition), 0) + 1
        return self.generations[group, partition]

    def commit(self, group: str, partition: int, generation: int, offset: int) -> bool:
        """False when another has taken the partition over."""
        if self.generations[group, partition] != generation:
            return False
        self.committed[group, partition] = offset
        return True

    def pass_time(self, length: timedelta) -> None:
        self.now += length
