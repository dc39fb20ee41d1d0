"""How long to wait, and when to give up."""

import importlib
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from spendmeter import retry
from spendmeter.retry import Reached, RetryPolicy, SpendThresholds
from spendmeter.retry.policy import RetryState
from spendmeter.retry.refusals import BudgetRefusal
from tests.builders import NOON


def refusal(retry_after: float | None = None) -> BudgetRefusal:
    return BudgetRefusal("Budget has been exceeded!", "b", Decimal(2), Decimal(1), retry_after)


def waits(state: RetryState, *refusals: tuple[float | None, float]) -> list[float | None]:
    """What each refusal, with its `retry-after` and its moment, is waited for."""
    told = [state.refused(refusal(after), seconds, NOON) for after, seconds in refusals]
    return [one and one.wait_seconds for one in told]


def test_what_is_told_before_a_wait() -> None:
    state = RetryState(RetryPolicy(poll_seconds=60))
    state.refused(refusal(90), 100, NOON)
    told = state.refused(refusal(90), 110, NOON)
    assert told is not None
    assert (told.budget, told.spent_usd, told.limit_usd) == ("b", Decimal(2), Decimal(1))
    assert (told.attempt, told.waited_seconds, told.wait_seconds) == (2, 10, 60)
    assert (told.until, told.reopens_at) == (NOON + timedelta(seconds=60), NOON + timedelta(seconds=90))


@pytest.mark.parametrize(
    ("look_again", "retry_after", "wait"), [(60, 90, 60), (60, 30, 30), (None, 90, 90), (60, None, 60)]
)
def test_the_nearer_of_the_windows_end_and_the_next_look_is_waited_for(
    look_again: float | None, retry_after: float | None, wait: float
) -> None:
    assert waits(RetryState(RetryPolicy(poll_seconds=look_again)), (retry_after, 0)) == [wait]


@pytest.mark.parametrize("retry_after", [1e12, float("9" * 400)])
def test_a_time_beyond_the_calendar_is_its_last_day(retry_after: float) -> None:
    state = RetryState(RetryPolicy(poll_seconds=None, max_wait_seconds=float("inf")))
    found = state.refused(refusal(retry_after), 0, NOON)
    assert found is not None
    assert found.reopens_at == found.until == datetime.max.replace(tzinfo=UTC)


def test_without_a_time_a_refusal_is_waited_for_only_by_polling_or_following_changes() -> None:
    headers_only = RetryPolicy(poll_seconds=None, max_wait_seconds=100)
    assert waits(RetryState(headers_only), (None, 0)) == [None]
    assert waits(RetryState(headers_only, follows_changes=True), (None, 0)) == [100]


@pytest.mark.parametrize(("retry_after", "wait"), [(100, 100), (101, None)])
def test_a_window_that_ends_after_all_patience_is_not_waited_for_in_vain(
    retry_after: float, wait: float | None
) -> None:
    assert waits(RetryState(RetryPolicy(poll_seconds=None, max_wait_seconds=100)), (retry_after, 0)) == [wait]


def test_the_last_wait_ends_with_patience_and_the_refusal_after_it_is_final() -> None:
    state = RetryState(RetryPolicy(max_wait_seconds=100))
    assert waits(state, (None, 0), (None, 60), (None, 100)) == [60, 40, None]


def test_no_more_attempts_than_allowed() -> None:
    assert waits(RetryState(RetryPolicy(max_attempts=2)), (None, 0), (None, 1)) == [60, None]
    assert waits(RetryState(RetryPolicy(max_attempts=1)), (None, 0)) == [None]


def test_after_a_change_the_gateway_is_asked_again_soon_a_few_times() -> None:
    state = RetryState(RetryPolicy(), follows_changes=True)
    state.heard()
    assert waits(state, (90, 0), (90, 1), (90, 2), (90, 3)) == [0.05, 0.2, 1.0, 60]


# SpendThresholds.


def test_each_fraction_is_told_once_per_window_the_lowest_first() -> None:
    told: list[Reached] = []
    fractions = SpendThresholds([0.8, 0.5], told.append)
    for window, spent in ((1, "0.49"), (1, "0.5"), (1, "0.6"), (1, "0.8"), (1, "1"), (2, "0.9")):
        fractions.see(window, "b", Decimal(spent), Decimal(1))
    assert [(one.fraction, one.spent_usd) for one in told] == [
        (0.5, Decimal("0.5")),
        (0.8, Decimal("0.8")),
        (0.5, Decimal("0.9")),
        (0.8, Decimal("0.9")),
    ]


@pytest.mark.parametrize("wrong", [[], [0.0], [1.1], [-0.5], [float("nan")]])
def test_fractions_that_cannot_be_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="fractions of a limit"):
        SpendThresholds(wrong, lambda _: None)


def test_the_earlier_name_is_the_same_and_says_so_once() -> None:
    sys.modules.pop("spendmeter.waiting", None)
    with pytest.warns(DeprecationWarning, match="spendmeter.waiting is called spendmeter.retry now"):
        earlier = importlib.import_module("spendmeter.waiting")
    # Again: a second warning would be an error.
    assert importlib.import_module("spendmeter.waiting") is earlier
    assert earlier.Fractions is SpendThresholds
    assert earlier.BudgetNews is retry.BudgetChanges
    assert earlier.Patience(max_attempts=2, look_again_seconds=5) == RetryPolicy(
        max_attempts=2, poll_seconds=5
    )
    assert list(earlier.Attempts(earlier.Patience(max_attempts=1), news=None))
    assert len(earlier.__all__) == len(retry.__all__)
    assert all(hasattr(earlier, name) for name in earlier.__all__)
    assert importlib.import_module("spendmeter.waiting.http").WaitingTransport(RetryPolicy())
