"""The recount: a component covers exactly its offsets."""

from datetime import datetime, timedelta

import pytest

from spendmeter.domain.matching import BudgetBook
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.history.usage_rows import UNPRICED, Row, needed_dimensions
from spendmeter_sinks.reconcile.replay import ComparedComponent, Missing, Replay
from spendmeter_sinks.reconcile.scope import CLOCKS_APART, Revision, Scope, WindowFilter, counting_periods
from spendmeter_sinks.reconcile.totals import ComparedWindow, Components, Version
from tests.builders import NOON, budget

ALL = ComparedWindow("all|", NOON.replace(hour=0))
BUDGET = budget(id="all", match={})


def row(offset: int, cost: int = 1, appended_at: int = 0, partition: int = 0) -> Row[int]:
    return Row(partition, offset, to_unix_us(NOON), appended_at, cost, ())


def recount(components: Components, rows: list[Row[int]], watermark: int, end: int | None = None) -> Replay:
    scope = Scope(
        BudgetBook([BUDGET]), counting_periods([Revision("all", BUDGET, NOON)]), {}, WindowFilter(), NOON
    )
    counted = Replay(scope, components, {0: watermark}, {0: watermark + 1 if end is None else end})
    counted.add(rows)
    return counted


def claim(first: int, last: int, spent: int, events: int) -> Components:
    return {ALL: {0: Version(first, last, spent, events)}}


def test_it_counts_from_the_first_offset_to_the_watermark_both_included() -> None:
    counted = recount(claim(3, 5, 3, 3), [row(offset) for offset in range(10)], watermark=7)
    assert counted.windows[ALL][0].events == 5


def test_a_component_past_the_watermark_is_counted_to_its_own_last_offset() -> None:
    counted = recount(claim(3, 8, 6, 6), [row(offset) for offset in range(10)], watermark=4, end=10)
    assert counted.bounds() == {0: 8}
    assert counted.differing() == []


def test_a_component_that_claims_more_than_there_is_is_counted_to_the_end() -> None:
    counted = recount(claim(0, 1_000, 2, 2), [row(0), row(1)], watermark=1, end=2)
    assert counted.bounds() == {0: 1}
    assert counted.differing() == []


@pytest.mark.parametrize(("spent", "events"), [(1, 2), (3, 2), (2, 1), (2, 3)])
def test_one_nano_or_one_event_is_a_difference(spent: int, events: int) -> None:
    counted = recount(claim(0, 1, spent, events), [row(0), row(1)], watermark=1)
    (differing,) = counted.differing()
    assert (differing.where, differing.partition) == (ALL, 0)
    assert (differing.lane.spent_nanousd, differing.lane.events) == (2, 2)


@pytest.mark.parametrize(("events", "agrees"), [(1, False), (2, True), (3, True), (4, True), (5, False)])
def test_free_events_may_be_counted_as_an_earlier_release_did(events: int, agrees: bool) -> None:
    """Before decision 16 an event at cost 0 was one of its accounts' events."""
    counted = recount(claim(0, 3, 2, events), [row(0), row(1)], watermark=3)
    assert counted.may_count_free_events is (events > 2)
    counted.add_free([row(2), row(3), row(4)])
    assert (not counted.differing()) is agrees


def test_free_events_explain_no_amount() -> None:
    counted = recount(claim(0, 3, 3, 3), [row(0), row(1)], watermark=3)
    assert not counted.may_count_free_events
    counted.add_free([row(2)])
    assert counted.differing()


def test_a_free_event_that_counts_a_flat_amount_is_not_free_to_that_budget() -> None:
    priced = budget(id="all", match={}, unpriced="0.000000005")
    scope = Scope(
        BudgetBook([priced]), counting_periods([Revision("all", priced, NOON)]), {}, WindowFilter(), NOON
    )
    counted = Replay(scope, claim(0, 0, 5, 2), {0: 0}, {0: 1})
    counted.add_flats([Row(0, 0, to_unix_us(NOON), 0, (1, 1), ())])
    counted.add_free([row(0, UNPRICED)])
    assert counted.differing()


def test_free_events_of_an_account_without_a_total_are_not_expected() -> None:
    after = to_unix_us(NOON + CLOCKS_APART)
    counted = recount({}, [], watermark=0)
    counted.add_free([row(0, appended_at=after)])
    assert counted.differing() == []


def test_events_before_a_budget_was_in_force_are_not_expected() -> None:
    before = to_unix_us(NOON + CLOCKS_APART) - 1
    assert recount({}, [row(0, appended_at=before)], watermark=0).differing() == []


def test_events_after_a_budget_was_in_force_are_expected_though_there_is_no_total() -> None:
    after = to_unix_us(NOON + CLOCKS_APART)
    (differing,) = recount({}, [row(0, appended_at=after)], watermark=0).differing()
    assert differing.lane == ComparedComponent(1 << 63, 0, None, 1, 1)


def test_events_above_the_watermark_are_not_expected_yet() -> None:
    after = to_unix_us(NOON + CLOCKS_APART)
    assert recount({}, [row(1, appended_at=after)], watermark=0).differing() == []


def test_an_account_without_a_total_is_expected_from_where_its_budget_was_counted_first() -> None:
    """Another account of the budget tells where that was, long before any clock does."""
    per_key = budget()
    scope = Scope(BudgetBook([per_key]), {}, {}, WindowFilter(), NOON)
    start = NOON.replace(hour=0)
    components: Components = {ComparedWindow("per-key|key=k1", start): {0: Version(5, 5, 1, 1)}}
    counted = Replay(scope, components, {0: 9}, {0: 10})
    counted.add([Row(0, 5, to_unix_us(NOON), 0, 1, ("k1",)), Row(0, 4, to_unix_us(NOON), 0, 1, ("k2",))])
    assert counted.differing() == []
    counted.add([Row(0, 6, to_unix_us(NOON), 0, 7, ("k2",))])
    (differing,) = counted.differing()
    assert differing.where.account == "per-key|key=k2"
    assert (differing.lane.claimed, differing.lane.spent_nanousd) == (None, 7)


def test_what_lies_before_the_first_offset_is_the_opening_balances_where_there_is_one() -> None:
    after = to_unix_us(NOON + CLOCKS_APART)
    components = claim(1, 1, 1, 1)
    assert recount(components, [row(0, appended_at=after), row(1)], watermark=1).differing()
    components[ALL]["history"] = Version(0, 1, 1, 1, {0: 1})
    assert not recount(components, [row(0, appended_at=after), row(1)], watermark=1).differing()


@pytest.mark.parametrize(("spent", "events", "agrees"), [(5, 2, True), (4, 2, False), (5, 1, False)])
def test_an_opening_balance_is_what_history_holds_below_its_offsets(
    spent: int, events: int, agrees: bool
) -> None:
    components = claim(2, 3, 30, 2)
    components[ALL]["history"] = Version(0, 3, spent, events, {0: 2, 1: 1})
    rows = [row(0, 2), row(0, 3, partition=1), row(2, 10), row(3, 20)]
    counted = recount(components, rows, watermark=3)

    assert counted.balances[ALL].agrees is agrees
    assert not counted.differing()
    assert counted.bounds()[1] == 0


def test_an_event_counts_in_the_window_of_its_own_time() -> None:
    late = row(0)._replace(occurred_at_us=to_unix_us(NOON - timedelta(days=1)))
    components = claim(0, 1, 1, 1)
    components[ALL._replace(window_start=ALL.window_start - timedelta(days=1))] = {0: Version(0, 1, 1, 1)}
    counted = recount(components, [late, row(1), row(1)._replace(occurred_at_us=late.occurred_at_us)], 1)
    assert [d.where.window_start for d in counted.differing()] == [ALL.window_start - timedelta(days=1)]


def test_only_the_dimensions_that_budgets_match_on_are_read() -> None:
    book = BudgetBook([budget(), budget(id="b", match={"tag": "*", "gateway": "g"}), BUDGET])
    assert needed_dimensions(book) == ["key", "tag", "gateway"]


def owed(
    components: Components, before: dict[int, int] | None, rows: list[Row[int]], now: datetime = NOON
) -> Replay:
    """Everything up to offset 9 of two partitions, where an opening balance is owed, or was taken."""
    scope = Scope(
        BudgetBook([BUDGET]), counting_periods([Revision("all", BUDGET, NOON)]), {}, WindowFilter(), NOON
    )
    marks = {0: 9, 1: 9}
    counted = Replay(scope, components, marks, {0: 10, 1: 10}, lambda _: before, now)
    counted.add(rows)
    return counted


def test_what_was_spent_before_counting_began_is_missing_until_a_balance_was_taken() -> None:
    rows = [row(2, 5), row(3, 7), row(4, 11, partition=1), row(10, 13)]
    counted = owed(claim(3, 3, 7, 1), None, rows)
    assert counted.differing() == []
    assert counted.missing == {ALL: Missing(16, 2)}


def test_an_account_that_spent_only_before_counting_began_is_missing_as_well() -> None:
    assert owed({}, None, [row(2, 5)]).missing == {ALL: Missing(5, 1)}
    assert owed({}, None, []).missing == {}


def test_of_a_window_that_is_over_no_balance_is_owed() -> None:
    later = NOON + timedelta(days=1)
    assert owed(claim(3, 3, 7, 1), None, [row(2, 5), row(3, 7)], later).missing == {}


def test_an_account_without_a_balance_had_spent_nothing_once_all_were_taken() -> None:
    before = {0: 3, 1: 5}
    fine = owed(claim(3, 3, 7, 1), before, [row(3, 7)])
    assert [lane.agrees for lane in fine.balances.values()] == [True]
    lacking = owed(claim(3, 3, 7, 1), before, [row(2, 5), row(3, 7), row(4, 11, partition=1)])
    assert lacking.differing() == []
    assert lacking.missing == {}
    (lane,) = lacking.balances.values()
    assert (lane.agrees, lane.claimed, lane.spent_nanousd, lane.events) == (False, None, 16, 2)
