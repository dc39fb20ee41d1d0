"""The recount against the real meter: whatever happens, it agrees; whatever is tampered with, it does not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from spendmeter.contract.budget import Budget
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.history.usage_rows import Row, needed_dimensions
from spendmeter_sinks.reconcile.replay import Replay
from spendmeter_sinks.reconcile.scope import Revision, Scope, WindowFilter, counting_periods, replaced_until
from spendmeter_sinks.reconcile.sequences import Range, count, in_both, without
from spendmeter_sinks.reconcile.totals import Totals
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import budget, usage

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
BEGUN = MIDNIGHT + timedelta(minutes=10)
PARTITIONS = 2
PERIODS = ("hour", "day", "lifetime", "PT20M")
MATCHES: tuple[dict[str, str], ...] = (
    {"key": "*"},
    {},
    {"key": "k1"},
    {"team": "red"},
    {"team": "*", "key": "k1"},
    {"tag": "*"},
)


@dataclass
class World:
    """Gateways, the log of spend.usage, its meters, the budgets and history, one step at a time."""

    now: datetime = BEGUN
    book: BudgetBook = field(default_factory=BudgetBook)
    revisions: list[Revision] = field(default_factory=list)
    logs: list[list[UsageRecord]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    meters: list[Meter] = field(default_factory=lambda: [Meter(p) for p in range(PARTITIONS)])
    totals: Totals = field(default_factory=Totals)
    sent: dict[str, list[UsageEvent]] = field(default_factory=dict)

    def send(self, producer: str, key: str, team: str | None, tags: Any, cost: int, late: int) -> None:
        """A finished request; its gateway's clock is `late` minutes behind."""
        events = self.sent.setdefault(producer, [])
        when = self.now - timedelta(minutes=late)
        seq = len(events) + 1
        events.append(
            usage(
                seq, cost, event_id=UUID(int=hash((producer, seq)) & (2**128 - 1)), producer_id=producer,
                key=key, team=team, tags=tags, occurred_at=when, started_at=when,
            )
        )  # fmt: skip
        self._append(events[-1])

    def resend(self, producer: str, last: int) -> None:
        """The end of what a producer sent, once more."""
        for one in self.sent.get(producer, [])[-last:]:
            self._append(one)

    def fold(self, partition: int) -> None:
        """The stream catches up on one partition, under the budgets of now."""
        meter, log = self.meters[partition], self.logs[partition]
        for total in meter.fold(log[meter.position + 1 :], self.book).totals:
            self.totals.apply(total)

    def crash(self, partition: int) -> None:
        """Everything a worker did since some commit is read again by its successor."""
        meter, log = self.meters[partition], self.logs[partition]
        for total in meter.fold(log[max(0, meter.position - 2) : meter.position + 1], self.book).totals:
            self.totals.apply(total)

    def apply(self, made: Budget) -> None:
        revised = made.model_copy(update={"revision": len(self.revisions) + 1})
        self.book.put(revised)
        self.revisions.append(Revision(made.id, revised, self.now))

    def reset(self, budget_id: str) -> None:
        known = self.book.get(budget_id)
        if known is not None:
            self.apply(known.model_copy(update={"reset_at": self.now}))

    def remove(self, budget_id: str, forget: bool) -> None:
        if self.book.remove(budget_id) is None:
            return
        self.revisions.append(Revision(budget_id, None, self.now))
        for meter in self.meters if forget else ():
            for key in meter.expire(self.book)[1]:
                self.totals.remove(key)

    def rows(self) -> list[Row[int]]:
        """History: the first copy of each event."""
        dimensions = needed_dimensions(self.book)
        first: dict[UUID, Row[int]] = {}
        for partition, log in enumerate(self.logs):
            for offset, appended_at, one in log:
                assert one is not None
                subject = subject_of(one)
                values = tuple(subject.tags if d == "tag" else getattr(subject, d) for d in dimensions)
                at = (to_unix_us(one.occurred_at), to_unix_us(appended_at))
                first.setdefault(one.event_id, Row(partition, offset, *at, one.cost_nanousd, values))
        return [row for row in first.values() if row.amount]

    def recount(self, rows: list[Row[int]], watermark: float = 1.0) -> Replay:
        scope = Scope(
            self.book,
            counting_periods(self.revisions),
            replaced_until(self.revisions),
            WindowFilter(),
            self.now,
        )
        ends = {p: len(log) for p, log in enumerate(self.logs)}
        marks = {p: int(end * watermark) - 1 for p, end in ends.items()}
        recount = Replay(scope, self.totals.mark(), marks, ends)
        recount.add(rows)
        return recount

    def _append(self, one: UsageEvent) -> None:
        partition = 0 if one.key == "k1" else 1
        self.logs[partition].append(UsageRecord(len(self.logs[partition]), self.now, one))


Step = Callable[[World], None]


def made(names: str, replaces: tuple[str | None, ...]) -> st.SearchStrategy[Budget]:
    """A budget of one of these names."""
    return st.builds(
        lambda name, match, period, replaced: budget(
            id=name, match=match, period=period, starts_at=MIDNIGHT if period == "PT20M" else None,
            replaces=replaced if replaced != name else None,
        ),
        st.sampled_from(names), st.sampled_from(MATCHES), st.sampled_from(PERIODS), st.sampled_from(replaces),
    )  # fmt: skip


def applied(one: Budget) -> Step:
    return lambda world: world.apply(one)


producers = st.sampled_from(("p1", "p2"))
sends: st.SearchStrategy[Step] = st.builds(
    lambda *given: lambda world: world.send(*given),
    producers, st.sampled_from(("k1", "k2")), st.sampled_from((None, "red", "blue")),
    st.sampled_from(((), ("x",), ("x", "y"))), st.integers(0, 50), st.integers(0, 60),
)  # fmt: skip
resends: st.SearchStrategy[Step] = st.builds(
    lambda p, n: lambda world: world.resend(p, n), producers, st.integers(1, 3)
)
partitions = st.integers(0, PARTITIONS - 1)
folds: st.SearchStrategy[Step] = st.builds(lambda p: lambda world: world.fold(p), partitions)
crashes: st.SearchStrategy[Step] = st.builds(lambda p: lambda world: world.crash(p), partitions)
changes: st.SearchStrategy[Step] = st.one_of(
    st.builds(applied, made("abc", (None, None, "a"))),
    st.builds(lambda name: lambda world: world.reset(name), st.sampled_from("abc")),
    st.builds(lambda n, f: lambda world: world.remove(n, f), st.sampled_from("abc"), st.booleans()),
)
quiet: st.SearchStrategy[Step] = st.just(lambda world: None)
steps = st.one_of(quiet, resends, folds, crashes, changes)
seconds = st.sampled_from((0, 1, 5, 60, 900))
stories = st.builds(
    lambda one, other, rest: [(applied(one), 20), (applied(other), 20), *chain.from_iterable(rest)],
    made("a", (None,)),
    made("b", (None,)),
    st.lists(
        st.tuples(*[st.tuples(step, seconds) for step in (sends, sends, steps)]), min_size=3, max_size=12
    ),
)
MANY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def play(story: list[tuple[Step, int]]) -> World:
    world = World()
    for step, seconds in story:
        step(world)
        world.now += timedelta(seconds=seconds)
    for partition in range(PARTITIONS):
        world.fold(partition)
    return world


@MANY
@given(stories, st.floats(0, 1))
def test_whatever_happens_the_recount_agrees_with_the_meter(
    story: list[tuple[Step, int]], watermark: float
) -> None:
    world = play(story)
    recount = world.recount(world.rows(), watermark)
    event(f"windows compared: {min(len(recount.windows), 3)}")
    assert recount.differing() == []


@MANY
@given(stories, st.data())
def test_a_row_that_is_lost_or_altered_never_goes_unnoticed(
    story: list[tuple[Step, int]], data: st.DataObject
) -> None:
    world = play(story)
    rows = world.rows()
    assume(rows)
    whole = world.recount(rows)
    at = data.draw(st.integers(0, len(rows) - 1))
    counted = world.recount(rows[:at] + rows[at + 1 :])
    altered = world.recount([*rows[:at], rows[at]._replace(amount=rows[at].amount + 1), *rows[at + 1 :]])
    # A row may fall under no compared window; then neither way of losing it shows.
    matters = sum(lane.events for lanes in whole.windows.values() for lane in lanes.values()) > sum(
        lane.events for lanes in counted.windows.values() for lane in lanes.values()
    )
    event(f"the row counts somewhere: {matters}")
    assert bool(counted.differing()) == matters
    assert bool(altered.differing()) == matters


@MANY
@given(stories, st.data())
def test_a_total_that_is_lost_or_altered_never_goes_unnoticed(
    story: list[tuple[Step, int]], data: st.DataObject
) -> None:
    world = play(story)
    claimed = [
        (where, partition, lane)
        for where, lanes in world.recount(world.rows()).windows.items()
        for partition, lane in lanes.items()
        if lane.claimed and lane.events
    ]
    assume(claimed)
    where, partition, lane = data.draw(st.sampled_from(claimed))
    assert lane.claimed is not None
    components = world.totals.latest[where]
    components[partition] = lane.claimed._replace(spent_nanousd=lane.claimed.spent_nanousd + 1)
    assert [d.where for d in world.recount(world.rows()).differing()] == [where]
    components[partition] = lane.claimed._replace(events=lane.claimed.events - 1)
    assert [d.where for d in world.recount(world.rows()).differing()] == [where]


numbers = st.sets(st.integers(1, 60))


def ranges_of(found: set[int]) -> list[Range]:
    ranges: list[Range] = []
    for number in sorted(found):
        if ranges and ranges[-1].last == number - 1:
            ranges[-1] = Range(ranges[-1].first, number)
        else:
            ranges.append(Range(number, number))
    return ranges


def numbers_in(ranges: list[Range]) -> set[int]:
    return {n for first, last in ranges for n in range(first, last + 1)}


@given(numbers, numbers)
def test_ranges_are_sets(one: set[int], other: set[int]) -> None:
    both, less = in_both(ranges_of(one), ranges_of(other)), without(ranges_of(one), other)
    assert numbers_in(both) == one & other
    assert numbers_in(less) == one - other
    assert count(both) == len(one & other)
    assert less == ranges_of(one - other)
