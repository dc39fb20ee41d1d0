"""Flat amounts and corrections: what history adds up to is what the meter says."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.budget import Budget
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.domain.charge import flats_of
from spendmeter.domain.matching import BudgetBook
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.history.usage_rows import Flats, Row, needed_dimensions
from spendmeter_sinks.reconcile.replay import Replay, has_flats
from spendmeter_sinks.reconcile.scope import Revision, Scope, WindowFilter, counting_periods, replaced_until
from spendmeter_sinks.reconcile.totals import Totals
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import budget, usage

BEGUN = datetime(2026, 11, 22, 10, tzinfo=UTC)
BUDGETS = [
    budget(id="flat", match={"key": "*"}, period="hour", unpriced="0.000000013", updated_at=BEGUN),
    budget(id="allow", match={}, period="lifetime", updated_at=BEGUN),
    budget(id="block", match={"model": "*"}, period="day", unpriced="block", updated_at=BEGUN),
]

usages = st.builds(
    lambda cost, source, status, key, minutes: {
        "cost_nanousd": cost,
        "cost_source": source,
        "status": status,
        "key": key,
        "occurred_at": BEGUN + timedelta(minutes=minutes),
    },
    st.integers(0, 50),
    st.sampled_from(CostSource),
    st.sampled_from(Status),
    st.sampled_from(("k1", "k2")),
    st.integers(0, 90),
)
corrections = st.tuples(st.integers(0, 20), st.integers(-50, 50), st.sampled_from(CostSource))


def history(
    given_usages: Sequence[dict[str, Any]], corrected: Sequence[tuple[int, int, CostSource]]
) -> list[UsageEvent]:
    events = [usage(n, event_id=UUID(int=n), **fields) for n, fields in enumerate(given_usages, 1)]
    for n, (which, amount, source) in enumerate(corrected, len(events) + 1):
        original = events[which % len(given_usages)]
        changes = {
            "event_id": UUID(int=n),
            "seq": n,
            "kind": UsageKind.CORRECTION,
            "corrects": original.event_id,
            "cost_nanousd": amount,
            "cost_source": source,
        }
        events.append(UsageEvent.model_validate({**original.model_dump(), **changes}))
    return events


def rows(log: Sequence[UsageRecord], book: BudgetBook) -> tuple[list[Row[int]], list[Row[Flats]]]:
    """What cost something, and what has no price, as history/usage_rows.py asks for them."""
    costs: list[Row[int]] = []
    flats: list[Row[Flats]] = []
    for offset, appended_at, event in log:
        assert event is not None
        values = tuple(getattr(event, dimension) for dimension in needed_dimensions(book))
        at = (to_unix_us(event.occurred_at), to_unix_us(appended_at))
        if event.cost_nanousd:
            costs.append(Row(0, offset, *at, event.cost_nanousd, values))
        if flats_of(event):
            flats.append(Row(0, offset, *at, (flats_of(event), int(not event.cost_nanousd)), values))
    return costs, flats


def is_free(event: UsageEvent, has_flat: bool) -> bool:
    return not event.cost_nanousd and not (has_flat and flats_of(event))


def recount(
    log: Sequence[UsageRecord], book: BudgetBook, totals: Totals, revised: Sequence[Budget]
) -> Replay:
    revisions = [Revision(one.id, one, BEGUN) for one in revised]
    scope = Scope(
        book,
        counting_periods(revisions),
        replaced_until(revisions),
        WindowFilter(),
        BEGUN + timedelta(hours=3),
    )
    made = Replay(scope, totals.mark(), {0: len(log) - 1}, {0: len(log)})
    costs, flats = rows(log, book)
    made.add(costs)
    assert has_flats(book)
    made.add_flats(flats)
    return made


@given(st.lists(usages, min_size=1, max_size=20), st.lists(corrections, max_size=10))
def test_history_recounted_with_flat_amounts_is_what_the_meter_says(
    given_usages: list[dict[str, Any]], corrected: list[tuple[int, int, CostSource]]
) -> None:
    appended = BEGUN + timedelta(hours=2)
    log = [UsageRecord(n, appended, event) for n, event in enumerate(history(given_usages, corrected))]
    book, totals = BudgetBook(BUDGETS), Totals()
    for total in Meter(0).fold(log, book).totals:
        totals.apply(total)

    made = recount(log, book, totals, BUDGETS)

    assert made.differing() == []
    assert {where.budget_id for where in made.windows} == {
        name
        for name, unpriced in (("flat", True), ("allow", False), ("block", False))
        if any(one.event and not is_free(one.event, unpriced) for one in log)
    }
    assert made.rows == sum(bool(one.event and one.event.cost_nanousd) for one in log)


def test_a_flat_amount_that_history_forgets_is_found() -> None:
    """The law above would not hold by itself."""
    log = [
        UsageRecord(
            0, BEGUN + timedelta(hours=2), usage(1, 0, cost_source=CostSource.UNPRICED, occurred_at=BEGUN)
        )
    ]
    book, totals = BudgetBook(BUDGETS), Totals()
    for total in Meter(0).fold(log, book).totals:
        totals.apply(total)
    made = recount(log, book, totals, BUDGETS)
    made.add_flats(rows(log, book)[1])
    assert [differing.where.budget_id for differing in made.differing()] == ["flat"]


def test_another_flat_amount_begins_an_era_of_its_own() -> None:
    """What was counted under the old one cannot be recounted under the new one."""
    changed = BUDGETS[0].model_copy(update={"unpriced": "0.5", "revision": 2})
    same = BUDGETS[1].model_copy(update={"unpriced": "block", "revision": 2})
    later = BEGUN + timedelta(minutes=5)
    revisions = [Revision(one.id, one, BEGUN) for one in BUDGETS]
    revisions += [Revision(changed.id, changed, later), Revision(same.id, same, later)]
    eras = counting_periods(revisions)
    assert eras["flat"].began == later
    assert eras["allow"].began == BEGUN, "`allow` and `block` count alike"
