"""However often and by whomever requests are corrected, every total is what they cost in the end."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.domain.matching import BudgetBook
from spendmeter.history.correction import CorrectedEvent, correct
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import NOON, budget, usage

BUDGETS = [
    budget(id="flat", unpriced="0.000000007", limit_nanousd=NanoUsd(50)),
    budget(id="all", match={}, period="lifetime"),
]
requests = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from(CostSource), st.sampled_from(Status)),
    min_size=1,
    max_size=5,
)
changes = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans(), st.booleans()), max_size=20
)


def changed(recorded: CorrectedEvent, cost: int, is_void: bool) -> UsageEvent | None:
    kind = UsageKind.VOID if is_void else UsageKind.CORRECTION
    return correct(recorded, NanoUsd(0 if is_void else cost), kind=kind, reason="", recorded_by="")


def tallies(log: Sequence[UsageEvent], chunk: int) -> dict[str, int]:
    meter, book = Meter(0), BudgetBook(BUDGETS)
    records = [UsageRecord(offset, NOON, event) for offset, event in enumerate(log)]
    for first in range(0, len(records), chunk):
        meter.fold(records[first : first + chunk], book)
        # A crash at the worst moment: the batch is read again.
        meter.fold(records[first : first + chunk], book)
    return {where.account: tally.spent_nanousd for where, tally in meter.tallies.items()}


@given(requests, changes, st.integers(1, 7))
def test_totals_are_what_the_requests_cost_in_the_end(
    made: list[tuple[int, CostSource, Status]], corrected: list[tuple[int, int, bool, bool]], chunk: int
) -> None:
    """Some of those who correct a request have not seen the correction before theirs: theirs counts not."""
    stored = [
        CorrectedEvent(usage(n, cost, event_id=UUID(int=n), cost_source=source, status=status))
        for n, (cost, source, status) in enumerate(made, 1)
    ]
    stale = list(stored)
    log = [recorded.original for recorded in stored]
    for which, cost, is_void, is_stale in corrected:
        at = which % len(stored)
        event = changed((stale if is_stale else stored)[at], cost, is_void)
        if event is None:
            continue
        log.append(event)
        if any(c.event_id == event.event_id for c in stored[at].corrections):
            continue
        stale[at] = stored[at]
        stored[at] = CorrectedEvent(stored[at].original, (*stored[at].corrections, event))

    cost_in_the_end = sum(recorded.cost_nanousd for recorded in stored)
    flats = sum(recorded.counts_flat for recorded in stored)
    expected = {"all|": cost_in_the_end, "flat|key=k1": cost_in_the_end + 7 * flats}
    # What costs nothing opens no account.
    assert _of_something(tallies(log, chunk)) == _of_something(expected)


def _of_something(totals: dict[str, int]) -> dict[str, int]:
    return {account: total for account, total in totals.items() if total}


@given(requests, st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=8))
def test_the_last_word_on_a_request_is_what_it_costs(
    made: list[tuple[int, CostSource, Status]], words: list[tuple[int, bool]]
) -> None:
    cost, source, status = made[0]
    recorded = CorrectedEvent(usage(1, cost, event_id=UUID(int=1), cost_source=source, status=status))
    for word, is_void in words:
        event = changed(recorded, word, is_void)
        if event is not None:
            recorded = CorrectedEvent(recorded.original, (*recorded.corrections, event))
        assert recorded.cost_nanousd == (0 if is_void else word)
        assert not recorded.counts_flat
        assert [c.seq for c in recorded.corrections] == list(range(1, len(recorded.corrections) + 1))
    assert changed(recorded, recorded.cost_nanousd, False) is None
