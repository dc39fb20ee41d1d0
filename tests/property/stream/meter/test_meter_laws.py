"""The meter against a naive oracle, over any log, any batches, any crash and any replay."""

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.domain.window import window_of
from spendmeter_stream.meter.meter import FoldResult, Meter, UsageRecord
from spendmeter_stream.state import AccountWindow, ChangelogEntry, CounterKey, PartitionSum
from tests.builders import NOON, budget, usage

BOOK = BudgetBook(
    [
        budget(id="per-key", match={"key": "*"}, period="hour"),
        budget(id="team", match={"team": "t1"}, period="lifetime"),
        budget(id="all", match={}, period="day"),
    ]
)
MAX_EVENTS = 12
# No deadline: the machine is shared.
LAW = settings(deadline=None)


@st.composite
def logs(draw: st.DrawFn) -> list[UsageRecord]:
    """Events of two producers in order, chunks that were sent again, records that cannot be read.

    Some are bills of one of two objects: each producer may send one, any number of times, to any account.
    """
    log: list[UsageEvent | None] = []
    sent: dict[str, list[UsageEvent]] = {"p1": [], "p2": []}
    for _ in range(draw(st.integers(1, MAX_EVENTS))):
        what = draw(st.sampled_from(["new", "new", "new", "again", "poison"]))
        producer = draw(st.sampled_from(["p1", "p2"]))
        if what == "poison":
            log.append(None)
        elif what == "again":
            log += sent[producer][-draw(st.integers(1, 3)) :]
        else:
            event = usage(
                len(sent[producer]) + 1,
                draw(st.integers(0, 1000)),
                producer_id=producer,
                key=draw(st.sampled_from(["k1", "k2"])),
                team=draw(st.sampled_from(["t1", "t2"])),
                occurred_at=NOON - timedelta(minutes=draw(st.integers(0, 150))),
                object_id=draw(st.sampled_from(["", "", "openai/batch_1", "openai/batch_2"])),
            )
            sent[producer].append(event)
            log.append(event)
    return [UsageRecord(offset, NOON, event) for offset, event in enumerate(log)]


def identities(event: UsageEvent) -> set[object]:
    return {event.event_id} | ({event.object_id} if event.object_id else set())


def truth(log: list[UsageRecord]) -> dict[AccountWindow, tuple[int, int, int]]:
    """Spent, events and last offset (of any copy), by going through the log once with a set of ids."""
    seen: set[object] = set()
    sums: dict[AccountWindow, list[int]] = defaultdict(lambda: [0, 0, 0])
    for offset, _, event in log:
        if event is None:
            continue
        # What costs nothing is no event of any account.
        for account in BOOK.accounts_of(subject_of(event)) if event.cost_nanousd else ():
            window = window_of(account.budget, event.occurred_at)
            assert window is not None
            into = sums[AccountWindow(account.name, window.start)]
            into[2] = offset
            if not seen & identities(event):
                into[0] += event.cost_nanousd
                into[1] += 1
        seen |= identities(event)
    return {where: (spent, events, last) for where, (spent, events, last) in sums.items()}


def sums_of(tallies: dict[CounterKey, PartitionSum]) -> dict[AccountWindow, tuple[int, int, int]]:
    return {AccountWindow(*w[:2]): (t.spent_nanousd, t.events, t.last_offset) for w, t in tallies.items()}


def written(folded: FoldResult) -> list[ChangelogEntry]:
    return [*folded.openings, *folded.entries]


def fold_in_batches(meter: Meter, log: list[UsageRecord], ends: list[int]) -> list[FoldResult]:
    bounds = sorted({0, len(log), *(end % (len(log) + 1) for end in ends)})
    return [meter.fold(log[a:b], BOOK) for a, b in pairwise(bounds)]


ENDS = st.lists(st.integers(0, 100), max_size=5)


@given(logs(), ENDS)
@LAW
def test_tallies_are_what_a_naive_reader_adds_up(log: list[UsageRecord], ends: list[int]) -> None:
    meter = Meter(0)
    fold_in_batches(meter, log, ends)
    assert sums_of(meter.tallies) == truth(log)


@given(logs(), ENDS, ENDS)
@LAW
def test_where_batches_end_does_not_matter(
    log: list[UsageRecord], ends: list[int], others: list[int]
) -> None:
    one, other = Meter(0), Meter(0)
    fold_in_batches(one, log, ends)
    fold_in_batches(other, log, others)
    assert (one.tallies, one.producers, one.position) == (other.tallies, other.producers, other.position)


@given(logs(), ENDS, st.data())
@settings(max_examples=300, deadline=None)
def test_a_crash_between_any_two_writes_changes_nothing(
    log: list[UsageRecord], ends: list[int], data: st.DataObject
) -> None:
    """Crashes, each after any entry, each followed by a replay from any offset that was committed by then."""
    without = Meter(0)
    without.fold(log, BOOK)
    surviving: list[ChangelogEntry] = []
    meter, committed, position = Meter(0), 0, 0
    for _ in range(data.draw(st.integers(1, 4), label="crashes")):
        end = data.draw(st.integers(position, len(log)), label="fold up to")
        stored = True
        for folded in fold_in_batches(meter, log[position:end], ends):
            entries = written(folded)
            keep = data.draw(st.integers(0, len(entries)), label="entries that survive")
            surviving += entries[:keep]
            stored = keep == len(entries)
            if not stored:
                break
        if stored:
            # Only what is stored may be committed, and the commit may lag.
            committed = data.draw(st.integers(committed, max(committed, end)), label="committed")
        meter = Meter.restore(0, _latest(surviving))
        position = committed
    totals: dict[tuple[str, datetime], int] = {}
    for folded in fold_in_batches(meter, log[position:], ends):
        totals |= {(t.account, t.window_start): t.spent_nanousd for t in folded.totals}
    assert sums_of(meter.tallies) == truth(log)
    assert meter.tallies == without.tallies
    sums = sums_of(meter.tallies)
    assert all(sums[AccountWindow(*where)][0] == spent for where, spent in totals.items())


@given(logs(), ENDS)
@LAW
def test_any_replay_repeats_the_totals_that_were_sent(log: list[UsageRecord], ends: list[int]) -> None:
    meter = Meter(0)
    fold_in_batches(meter, log, ends)
    again = meter.fold(log, BOOK)
    assert {AccountWindow(t.account, t.window_start) for t in again.totals} == set(sums_of(meter.tallies))
    assert again.counted == 0
    assert sums_of(meter.tallies) == truth(log)


@given(logs(), st.integers(0, MAX_EVENTS))
@LAW
def test_a_budget_that_comes_later_counts_exactly_what_comes_after_it(
    log: list[UsageRecord], applied: int
) -> None:
    meter = Meter(0)
    meter.fold(log[:applied], BudgetBook())
    meter.fold(log[applied:], BOOK)
    whole = truth(log)
    before = truth(log[:applied])
    for counted, tally in meter.tallies.items():
        where = AccountWindow(*counted[:2])
        assert tally.first_offset >= min(applied, len(log))
        known = before.get(where, (0, 0, 0))
        assert (tally.spent_nanousd, tally.events) == (
            whole[where][0] - known[0],
            whole[where][1] - known[1],
        )


def _latest(entries: list[ChangelogEntry]) -> list[tuple[bytes, bytes]]:
    kept: dict[bytes, bytes] = {}
    for key, value in entries:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    return list(kept.items())
