"""Which of two totals is the newer: the judge and the reconciler keep the same one, whatever comes."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import HISTORY, Total
from spendmeter_sinks.reconcile.totals import ComparedWindow as ReconciledWindow
from spendmeter_sinks.reconcile.totals import Totals
from spendmeter_stream.judge.judge import Judge
from spendmeter_stream.state import AccountWindow
from tests.builders import NOON

BUDGET = "per-key"
ACCOUNT = f"{BUDGET}|key=k1"


def total(spent: int, **fields: Any) -> Total:
    return Total(
        **{
            "account": ACCOUNT,
            "window_start": NOON,
            "source_partition": 0,
            "spent_nanousd": NanoUsd(spent),
            "events": 1,
            "first_offset": 0,
            "last_offset": 5,
            "shape": "a",
            **fields,
        }
    )


def kept_by_both(*totals: Total) -> tuple[int, int]:
    """What judge and reconciler hold of the component afterwards, in nano-USD."""
    judge, reconciler = Judge(), Totals()
    judge.apply(totals)
    for one in totals:
        reconciler.apply(one)
    source = totals[0].source_partition
    (judged,) = judge.accounts.values()
    (reconciled,) = reconciler.latest.values()
    assert list(judge.accounts) == [AccountWindow(ACCOUNT, NOON)]
    return judged.components[source].spent_nanousd, reconciled[source].spent_nanousd


def test_a_total_of_another_shape_at_the_same_offset_replaces_the_one_before() -> None:
    assert kept_by_both(total(500), total(200, shape="b")) == (200, 200)


def test_one_of_another_shape_that_was_opened_earlier_does_not() -> None:
    assert kept_by_both(total(500, first_offset=2), total(200, shape="b", first_offset=1)) == (500, 500)


def test_an_opening_balance_of_an_older_revision_does_not_replace_the_newer_one() -> None:
    newer = total(500, source_partition=HISTORY, before={0: 5}, revision=2)
    older = total(200, source_partition=HISTORY, before={0: 5}, revision=1)
    assert kept_by_both(newer, older) == (500, 500)
    assert kept_by_both(older, newer) == (500, 500)


counted = st.builds(
    lambda spent, first, length, shape: total(
        spent, first_offset=first, last_offset=first + length, shape=shape
    ),
    st.integers(0, 1_000),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["a", "b", None]),
)
balances = st.builds(
    lambda spent, before, revision, shape: total(
        spent,
        source_partition=HISTORY,
        last_offset=sum(before.values()),
        before=before,
        revision=revision,
        shape=shape,
    ),
    st.integers(0, 1_000),
    st.dictionaries(st.integers(0, 1), st.integers(1, 4), max_size=2),
    st.integers(0, 2),
    st.sampled_from(["a", "b"]),
)


@given(st.lists(counted, min_size=1, max_size=8) | st.lists(balances, min_size=1, max_size=8))
def test_judge_and_reconciler_keep_the_same_total(totals: list[Total]) -> None:
    judged, reconciled = kept_by_both(*totals)
    assert judged == reconciled


closings = st.builds(
    lambda before, revision, shape, hour: total(
        0,
        account=BUDGET,
        window_start=NOON + timedelta(hours=hour),
        source_partition=HISTORY,
        last_offset=sum(before.values()),
        before=before,
        revision=revision,
        shape=shape,
    ),
    st.dictionaries(st.integers(0, 1), st.integers(0, 4), max_size=2),
    st.integers(0, 2),
    st.sampled_from(["a", "b"]),
    st.integers(0, 2),
)


@given(st.lists(closings, min_size=1, max_size=8), st.integers(-1, 3))
def test_judge_and_reconciler_rest_a_window_on_the_same_opening_balance(
    totals: list[Total], hour: int
) -> None:
    judge, reconciler = Judge(), Totals()
    judge.apply(totals)
    for one in totals:
        reconciler.apply(one)
    start = NOON + timedelta(hours=hour)

    judged = judge._opening_balances.of(BUDGET, start)

    assert reconciler.opened(ReconciledWindow(ACCOUNT, start)) == (judged and judged.before)


def test_a_partition_of_which_nothing_is_held_may_be_named_or_not() -> None:
    reconciler = Totals()
    of_budget, of_account = {0: 5}, {0: 5, 1: 0}
    reconciler.apply(total(0, account=BUDGET, source_partition=HISTORY, before=of_budget))
    reconciler.apply(total(7, source_partition=HISTORY, before=of_account))

    where = ReconciledWindow(ACCOUNT, NOON)
    assert reconciler.latest[where][HISTORY].before == reconciler.opened(where)
