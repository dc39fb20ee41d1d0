"""How long to wait, and when to give up."""

from datetime import timedelta
from decimal import Decimal

import pytest

from spendmeter.waiting import Fractions, Patience, Reached
from spendmeter.waiting.patience import Course
from spendmeter.waiting.refusals import Refusal
from tests.builders import NOON


def refusal(retry_after: float | None = None) -> Refusal:
    return Refusal("Budget has been exceeded!", "b", Decimal(2), Decimal(1), retry_after)


def waits(course: Course, *refusals: tuple[float | None, float]) -> list[float | None]:
    """What each refusal, with its `retry-after` and its moment, is waited for."""
    told = [course.refused(refusal(after), seconds, NOON) for after, seconds in refusals]
    return [one and one.wait_seconds for one in told]


def test_what_is_told_before_a_wait() -> None:
    course = Course(Patience(look_again_seconds=60))
    course.refused(refusal(90), 100, NOON)
    told = course.refused(refusal(90), 110, NOON)
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
    assert waits(Course(Patience(look_again_seconds=look_again)), (retry_after, 0)) == [wait]


def test_without_a_time_a_refusal_is_waited_for_only_by_looking_again_or_for_news() -> None:
    headers_only = Patience(look_again_seconds=None, max_wait_seconds=100)
    assert waits(Course(headers_only), (None, 0)) == [None]
    assert waits(Course(headers_only, hears_news=True), (None, 0)) == [100]


@pytest.mark.parametrize(("retry_after", "wait"), [(100, 100), (101, None)])
def test_a_window_that_ends_after_all_patience_is_not_waited_for_in_vain(
    retry_after: float, wait: float | None
) -> None:
    assert waits(Course(Patience(look_again_seconds=None, max_wait_seconds=100)), (retry_after, 0)) == [wait]


def test_the_last_wait_ends_with_patience_and_the_refusal_after_it_is_final() -> None:
    course = Course(Patience(max_wait_seconds=100))
    assert waits(course, (None, 0), (None, 60), (None, 100)) == [60, 40, None]


def test_no_more_attempts_than_allowed() -> None:
    assert waits(Course(Patience(max_attempts=2)), (None, 0), (None, 1)) == [60, None]
    assert waits(Course(Patience(max_attempts=1)), (None, 0)) == [None]


def test_after_news_the_gateway_is_asked_again_soon_a_few_times() -> None:
    course = Course(Patience(), hears_news=True)
    course.heard()
    assert waits(course, (90, 0), (90, 1), (90, 2), (90, 3)) == [0.05, 0.2, 1.0, 60]


# Fractions.


def test_each_fraction_is_told_once_per_window_the_lowest_first() -> None:
    told: list[Reached] = []
    fractions = Fractions([0.8, 0.5], told.append)
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
        Fractions(wrong, lambda _: None)
