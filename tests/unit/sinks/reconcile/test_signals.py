"""Signals against totals: compared at the signal's own watermark."""

from datetime import timedelta
from typing import Any

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.total import Total
from spendmeter.domain.matching import BudgetBook
from spendmeter_sinks.reconcile.scope import LeftOut, Scope, WindowFilter
from spendmeter_sinks.reconcile.signals import SignalCheck, compare_signals
from spendmeter_sinks.reconcile.totals import Totals
from tests.builders import NOON, budget

ACCOUNT = "per-key|key=k1"
MIDNIGHT = NOON.replace(hour=0)
SCOPE = Scope(BudgetBook([budget()]), {}, {}, WindowFilter(), NOON)


def total(last_offset: int, spent: int, partition: int | str = 0, **fields: Any) -> Total:
    defaults = {
        "account": ACCOUNT, "window_start": MIDNIGHT, "source_partition": partition,
        "spent_nanousd": spent, "events": 1, "first_offset": 0, "last_offset": last_offset,
    }  # fmt: skip
    return Total.model_validate({**defaults, **fields})


def signal(spent: int, watermark: dict[int, int], **fields: Any) -> Signal:
    made = Signal(
        budget_id="per-key", account=ACCOUNT, subject={"key": "k1"}, window_start=MIDNIGHT,
        window_end=MIDNIGHT + timedelta(days=1), limit_nanousd=NanoUsd(1_000_000),
        spent_nanousd=NanoUsd(spent), state=State.OK, watermark=watermark, revision=1, version=1,
        emitted_at=NOON,
    )  # fmt: skip
    return made.model_copy(update=fields)


def told(marked: list[Total], since: list[Total], latest: Signal | None, now: Any = NOON) -> SignalCheck:
    totals = Totals()
    for one in marked:
        totals.apply(one)
    at_mark = totals.mark()
    for one in since:
        totals.apply(one)
    return compare_signals({ACCOUNT: latest} if latest else {}, totals, at_mark, SCOPE, now)


def test_a_signal_is_the_sum_of_its_totals() -> None:
    found = told([total(4, 10), total(7, 5, partition=1)], [], signal(15, {0: 4, 1: 7}))
    assert (found.compared, found.mismatches) == (1, [])
    assert found.signals_nanousd == found.totals_nanousd == 15


def test_one_nano_beside_is_a_difference_that_no_waiting_mends() -> None:
    (mistold,) = told([total(4, 10)], [], signal(11, {0: 4})).mismatches
    assert (mistold.signal_nanousd, mistold.totals_nanousd, mistold.may_follow) == (11, 10, False)


def test_totals_that_came_since_make_no_difference() -> None:
    """Traffic flows: the signal rests on the second of three totals."""
    since = [total(5, 20), total(6, 30)]
    assert told([total(4, 10)], since, signal(20, {0: 5})).mismatches == []


def test_a_signal_behind_the_totals_at_the_mark_may_follow() -> None:
    (mistold,) = told([total(4, 10)], [], signal(5, {0: 3})).mismatches
    assert mistold.may_follow
    (mistold,) = told([total(4, 10), total(1, 1, partition=1)], [], signal(10, {0: 4})).mismatches
    assert mistold.may_follow


def test_an_account_without_a_signal_may_get_one() -> None:
    (mistold,) = told([total(4, 10)], [], None).mismatches
    assert (mistold.signal_nanousd, mistold.totals_nanousd, mistold.may_follow) == (None, 10, True)


def test_a_signal_that_rests_on_no_known_total_is_told_of() -> None:
    (mistold,) = told([total(4, 10)], [total(9, 20)], signal(15, {0: 6})).mismatches
    assert "partitions [0]" in mistold.detail


def test_once_the_window_is_over_its_last_signal_need_not_follow() -> None:
    end = MIDNIGHT + timedelta(days=1)
    assert told([total(4, 10)], [], signal(5, {0: 3}), now=end).left_out == {LeftOut.OVER: 1}
    assert told([total(4, 10)], [], signal(5, {0: 3}), now=end - timedelta(microseconds=1)).mismatches
    assert told([total(4, 10)], [], signal(11, {0: 4}), now=end).mismatches


def test_an_opening_balance_is_part_of_the_sum() -> None:
    assert told([total(4, 10), total(0, 7, "history")], [], signal(17, {0: 4})).mismatches == []


def test_a_signal_of_a_budget_that_is_gone_is_left_out() -> None:
    other = signal(1, {0: 1}, account="gone|key=k1", budget_id="gone")
    found = compare_signals({"gone|key=k1": other}, Totals(), {}, SCOPE, NOON)
    assert found.left_out == {LeftOut.BUDGET_GONE: 1}


def test_a_total_with_a_lower_offset_or_the_same_changes_nothing() -> None:
    assert told([total(4, 10), total(3, 99), total(4, 98)], [], signal(10, {0: 4})).mismatches == []


def test_a_tombstone_takes_its_component_out() -> None:
    totals = Totals()
    one, other = total(4, 10), total(7, 5, partition=1)
    totals.apply(one)
    totals.apply(other)
    totals.remove(one.key())
    assert [list(sources) for sources in totals.latest.values()] == [[1]]
    totals.remove(other.key())
    totals.remove(other.key())
    assert totals.latest == {}
