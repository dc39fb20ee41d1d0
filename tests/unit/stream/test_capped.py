"""Not more accounts of a budget than a worker keeps: what further values spend is added up, once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.signal import State
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import BudgetBook, rest_account, subject_of
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, Dimension, field_of
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.history.usage_rows import Row, needed_dimensions
from spendmeter_sinks.reconcile.replay import Replay
from spendmeter_sinks.reconcile.scope import LeftOut, Scope, WindowFilter
from spendmeter_sinks.reconcile.totals import ComparedWindow, Totals
from spendmeter_stream.judge.judge import Judge
from spendmeter_stream.meter.meter import FoldResult, Meter, UsageRecord
from spendmeter_stream.state import ChangelogEntry
from tests.builders import NOON, budget, usage

TAGS = budget(id="tags", match={"tag": "*"}, period="lifetime", limit_nanousd=10)
BOOK = BudgetBook([TAGS])
REST = "tags|"


def log(*events: UsageEvent, start: int = 0) -> list[UsageRecord]:
    return [UsageRecord(start + n, NOON, event) for n, event in enumerate(events)]


def spending(seq: int, cost: int, *tags: str, **fields: Any) -> UsageEvent:
    return usage(seq, cost, tags=tags, **fields)


def spent(meter: Meter) -> dict[str, int]:
    return {where.account: tally.spent_nanousd for where, tally in meter.tallies.items()}


def after(entries: Sequence[ChangelogEntry]) -> list[tuple[bytes, bytes]]:
    kept: dict[bytes, bytes] = {}
    for key, value in entries:
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    return list(kept.items())


def written(folded: FoldResult) -> list[ChangelogEntry]:
    return [*folded.openings, *folded.entries]


class TestTheMeter:
    def test_as_many_accounts_as_the_bound_and_the_rest_in_one(self) -> None:
        meter = Meter(0, max_accounts=2)
        folded = meter.fold(
            log(spending(1, 5, "a"), spending(2, 7, "b"), spending(3, 11, "c"), spending(4, 13, "d")), BOOK
        )
        assert spent(meter) == {"tags|tag=a": 5, "tags|tag=b": 7, REST: 24}
        assert folded.capped == 2

    def test_who_has_an_account_keeps_it(self) -> None:
        meter = Meter(0, max_accounts=1)
        meter.fold(log(spending(1, 5, "a"), spending(2, 7, "b"), spending(3, 11, "a")), BOOK)
        assert spent(meter) == {"tags|tag=a": 16, REST: 7}

    def test_an_event_of_several_further_values_counts_once_among_the_rest(self) -> None:
        meter = Meter(0, max_accounts=1)
        meter.fold(log(spending(1, 5, "a"), spending(2, 7, "b", "c", "a")), BOOK)
        assert spent(meter) == {"tags|tag=a": 12, REST: 7}

    def test_each_window_has_its_own_bound(self) -> None:
        book = BudgetBook([TAGS.model_copy(update={"period": "day"})])
        meter = Meter(0, max_accounts=1)
        yesterday = NOON - timedelta(days=1)
        meter.fold(log(spending(1, 5, "a"), spending(2, 7, "b", occurred_at=yesterday)), book)
        assert spent(meter) == {"tags|tag=a": 5, "tags|tag=b": 7}

    def test_none_is_no_bound(self) -> None:
        meter = Meter(0)
        meter.fold(log(*(spending(n, n, f"t{n}") for n in range(1, 9))), BOOK)
        assert REST not in spent(meter)
        assert len(meter.tallies) == 8

    @pytest.mark.parametrize("dimension", DIMENSIONS)
    def test_only_values_that_clients_make_up_are_bounded(self, dimension: Dimension) -> None:
        one = budget(id="b", match={dimension: "*"}, period="lifetime")
        values = [("v1",), ("v2",)] if dimension == "tag" else ["v1", "v2"]
        events = [usage(n, 5, **{field_of(dimension): value}) for n, value in enumerate(values, 1)]
        meter = Meter(0, max_accounts=1)
        meter.fold(log(*events), BudgetBook([one]))
        assert ("b|" in spent(meter)) is (dimension in CLIENT_MADE)
        assert (rest_account(one) is not None) is (dimension in CLIENT_MADE)

    def test_a_higher_bound_opens_accounts_behind_what_was_added_up_together(self) -> None:
        before = Meter(0, max_accounts=1)
        folded = before.fold(log(spending(1, 5, "a"), spending(2, 7, "b"), spending(3, 1, "c")), BOOK)
        meter = Meter.restore(0, after(written(folded)), max_accounts=9)
        meter.fold(log(spending(2, 7, "b"), spending(3, 1, "c"), start=1), BOOK)
        meter.fold(log(spending(4, 11, "b"), start=3), BOOK)
        assert {name: amount for name, amount in spent(meter).items() if amount} == {
            "tags|tag=a": 5,
            REST: 8,
            "tags|tag=b": 11,
        }
        (opened,) = [tally for where, tally in meter.tallies.items() if where.account == "tags|tag=b"]
        assert opened.first_offset == 3

    def test_a_budget_that_is_gone_gives_its_room_back(self) -> None:
        meter = Meter(0, max_accounts=1)
        meter.fold(log(spending(1, 5, "a")), BOOK)
        meter.expire(BudgetBook())
        meter.fold(log(spending(2, 7, "b"), start=1), BOOK)
        assert spent(meter) == {"tags|tag=b": 7}


events = st.lists(
    st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abcde"), min_size=1, max_size=1)),
    min_size=1,
    max_size=14,
)


@given(events, st.integers(1, 4))
def test_no_bound_loses_or_doubles_money(made: list[tuple[int, set[str]]], bound: int) -> None:
    meter = Meter(0, max_accounts=bound)
    meter.fold(log(*(spending(n, cost, *tags) for n, (cost, tags) in enumerate(made, 1))), BOOK)
    assert sum(spent(meter).values()) == sum(cost for cost, _ in made)
    assert len(spent(meter).keys() - {REST}) <= bound


@given(events, st.integers(1, 3), st.data())
@settings(max_examples=300, deadline=None)
def test_crashes_and_replays_give_each_value_the_same_account(
    made: list[tuple[int, set[str]]], bound: int, data: st.DataObject
) -> None:
    whole = log(*(spending(n, cost, *tags) for n, (cost, tags) in enumerate(made, 1)))
    without = Meter(0, max_accounts=bound)
    without.fold(whole, BOOK)
    surviving: list[ChangelogEntry] = []
    meter, committed = Meter(0, max_accounts=bound), 0
    for _ in range(data.draw(st.integers(1, 4), label="crashes")):
        position = committed
        end = data.draw(st.integers(position, len(whole)), label="fold up to")
        entries = written(meter.fold(whole[position:end], BOOK))
        keep = data.draw(st.integers(0, len(entries)), label="entries that survive")
        surviving += entries[:keep]
        if keep == len(entries):
            committed = data.draw(st.integers(committed, end), label="committed")
        meter = Meter.restore(0, after(surviving), max_accounts=bound)
    meter.fold(whole[committed:], BOOK)
    assert meter.tallies == without.tallies


class TestTheJudge:
    def judged(self, *partitions: int, judge: Judge | None = None) -> tuple[Judge, Any]:
        judge = judge or Judge()
        for partition in partitions:
            meter = Meter(partition, max_accounts=1)
            judge.apply(meter.fold(log(spending(1, 5, "a"), spending(2, 50, "b")), BOOK).totals)
        return judge, judge.judge(BOOK, NOON)

    def test_it_tells_once_and_nobody_is_refused_for_the_rest(self) -> None:
        judge, said = self.judged(0)
        (rest,) = [signal for signal in said.signals if signal.account == REST]
        assert (rest.spent_nanousd, rest.state, rest.threshold) == (50, State.OK, None)
        assert [a.kind for a in said.alerts if a.signal and a.signal.account == REST] == [
            AlertKind.ACCOUNTS_CAPPED
        ]
        _, again = self.judged(1, judge=judge)
        assert [a for a in again.alerts if a.kind is AlertKind.ACCOUNTS_CAPPED] == []

    def test_a_restart_tells_it_by_the_same_id(self) -> None:
        ids = {
            alert.alert_id
            for _ in range(2)
            for alert in self.judged(0)[1].alerts
            if alert.kind is AlertKind.ACCOUNTS_CAPPED
        }
        assert len(ids) == 1

    def test_what_a_budget_counted_under_that_name_before_is_not_the_rest(self) -> None:
        everything = TAGS.model_copy(update={"match": {}})
        judge = Judge()
        judge.apply(Meter(0).fold(log(spending(1, 50, "a")), BudgetBook([everything])).totals)
        said = judge.judge(BOOK, NOON)
        assert [alert.kind for alert in said.alerts if alert.kind is AlertKind.ACCOUNTS_CAPPED] == []

    def test_no_request_is_judged_by_it(self) -> None:
        names = [account.name for account in BOOK.accounts_of(subject_of(spending(1, 1, "new")))]
        assert names == ["tags|tag=new"]


class TestReconcile:
    def recount(self, bound: int) -> Replay:
        whole = log(spending(1, 5, "a"), spending(2, 7, "b"), spending(3, 11, "a", "c"))
        totals = Totals()
        for total in Meter(0, max_accounts=bound).fold(whole, BOOK).totals:
            totals.apply(total)
        scope = Scope(BOOK, {}, {}, WindowFilter(), NOON)
        made = Replay(scope, totals.mark(), {0: 2}, {0: 3})
        assert needed_dimensions(BOOK) == ["tag"]
        at = to_unix_us(NOON)
        made.add(
            Row(0, n, at, at, one.event.cost_nanousd, (one.event.tags,))
            for n, one in enumerate(whole)
            if one.event
        )
        return made

    def test_accounts_that_there_are_agree_and_the_others_are_left_out(self) -> None:
        made = self.recount(bound=1)
        assert made.differing() == []
        assert {where.account for where in made.windows} == {"tags|tag=a"}
        (start,) = {where.window_start for where in made.windows}
        assert made.scope.of_account(ComparedWindow(REST, start)) is LeftOut.REST

    def test_without_a_bound_all_are_compared(self) -> None:
        assert len(self.recount(bound=0).windows) == 3
