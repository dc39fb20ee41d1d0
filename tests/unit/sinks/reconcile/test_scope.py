"""Which windows are compared: each reason at its boundary."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from spendmeter.contract.budget import Budget
from spendmeter.domain.matching import BudgetBook
from spendmeter_sinks.reconcile.scope import (
    CLOCKS_APART,
    COMPARED_AFTER_CLOSE,
    LeftOut,
    Revision,
    Scope,
    WindowFilter,
    counting_periods,
    read_window_filter,
    replaced_until,
)
from spendmeter_sinks.reconcile.totals import ComparedWindow
from tests.builders import NOON, budget

MIDNIGHT = NOON.replace(hour=0)
TODAY = ComparedWindow("per-key|key=k1", MIDNIGHT)
HOUR = timedelta(hours=1)
EVERY = WindowFilter()


def scope(
    *history: tuple[datetime, Budget | str], chosen: WindowFilter = EVERY, now: datetime = NOON
) -> Scope:
    """A scope after budgets were applied, or removed by id, at those moments."""
    book, revisions = BudgetBook(), []
    for revision, (at, change) in enumerate(history, 1):
        if isinstance(change, str):
            book.remove(change)
            revisions.append(Revision(change, None, at))
        else:
            made = change.model_copy(update={"revision": revision})
            book.put(made)
            revisions.append(Revision(made.id, made, at))
    return Scope(book, counting_periods(revisions), replaced_until(revisions), chosen, now)


def test_a_window_of_a_budget_that_was_never_changed_is_compared() -> None:
    assert scope((NOON - HOUR, budget())).of_account(TODAY) is None


def test_a_changed_limit_changes_nothing() -> None:
    raised = budget(limit_nanousd=5)
    assert scope((MIDNIGHT, budget()), (NOON, raised)).of_account(TODAY) is None


def test_a_budget_that_is_gone_is_not_compared() -> None:
    assert scope((MIDNIGHT, budget()), (NOON, "per-key")).of_account(TODAY) is LeftOut.BUDGET_GONE


@pytest.mark.parametrize(
    "other",
    [{"period": "week"}, {"match": {"team": "*"}}, {"match": {"key": "k2"}}, {"starts_at": NOON}],
    ids=str,
)
def test_a_window_or_account_that_the_present_shape_has_not_is_not_compared(other: dict[str, Any]) -> None:
    changed = scope((MIDNIGHT - HOUR, budget()), (MIDNIGHT - HOUR, budget(**other)))
    assert changed.of_account(TODAY) is LeftOut.OTHER_SHAPE


def test_a_window_that_another_shape_began_at_the_same_moment_is_not_compared() -> None:
    """The total may be of the day: hours and days begin together at midnight."""
    hourly = budget(period="hour")
    assert scope((MIDNIGHT, budget()), (NOON, hourly)).of_account(TODAY) is LeftOut.CHANGED_WITHIN
    before = MIDNIGHT - timedelta(microseconds=1)
    assert scope((before, budget()), (before, hourly)).of_account(TODAY) is None


def test_a_reset_splits_a_window_and_only_its_new_part_is_compared() -> None:
    reset = budget(reset_at=NOON - HOUR)
    after = scope((MIDNIGHT, budget()), (NOON - HOUR, reset))
    assert after.of_account(TODAY) is LeftOut.CHANGED_WITHIN
    assert after.of_account(TODAY._replace(window_start=NOON - HOUR)) is None


def test_a_budget_that_was_away_is_compared_from_its_next_window_on() -> None:
    """While it was away nothing was counted, though the shape is the same again."""
    again = scope(
        (MIDNIGHT, budget()), (MIDNIGHT + HOUR, "per-key"), (MIDNIGHT + 2 * HOUR, budget()),
        now=MIDNIGHT + timedelta(days=1),
    )  # fmt: skip
    assert again.of_account(TODAY) is LeftOut.CHANGED_WITHIN
    assert again.of_account(TODAY._replace(window_start=MIDNIGHT + timedelta(days=1))) is None


@pytest.mark.parametrize("ends", ["replacement applied", "replacement removed", "replacement narrowed"])
def test_a_window_in_which_a_replacement_began_or_ceased_is_not_compared(ends: str) -> None:
    replacing = budget(id="vip", match={"key": "k1"}, replaces="per-key")
    changes: list[tuple[datetime, Budget | str]] = [(MIDNIGHT - HOUR, budget())]
    if ends == "replacement applied":
        changes += [(NOON, replacing)]
    if ends == "replacement removed":
        changes += [(MIDNIGHT - HOUR, replacing), (NOON, "vip")]
    if ends == "replacement narrowed":
        changes += [
            (MIDNIGHT - HOUR, replacing),
            (NOON, replacing.model_copy(update={"match": {"key": "k2"}})),
        ]
    assert scope(*changes).of_account(TODAY) is LeftOut.REPLACED_WITHIN


def test_a_window_that_began_after_the_replacement_is_compared() -> None:
    replacing = budget(id="vip", match={"key": "k2"}, replaces="per-key")
    long_before = MIDNIGHT - CLOCKS_APART - timedelta(microseconds=1)
    assert scope((long_before, budget()), (long_before, replacing)).of_account(TODAY) is None
    just_before = MIDNIGHT - CLOCKS_APART
    late = scope((just_before, budget()), (just_before, replacing))
    assert late.of_account(TODAY) is LeftOut.REPLACED_WITHIN


def test_a_window_is_compared_until_six_days_after_its_end() -> None:
    end = MIDNIGHT + timedelta(days=1)
    last = end + COMPARED_AFTER_CLOSE
    assert scope((MIDNIGHT, budget()), now=last).of_account(TODAY) is None
    over = scope((MIDNIGHT, budget()), now=last + timedelta(microseconds=1))
    assert over.of_account(TODAY) is LeftOut.CLOSED_LONG_AGO


@pytest.mark.parametrize(
    ("text", "touched"),
    [
        ("now", True),
        ("2026-11-22", True),
        ("2026-11-21T23:59:59.999999Z", False),
        ("2026-11-23", False),
        ("2026-11-21/2026-11-22", True),
        ("2026-11-20/2026-11-21", False),
        ("2026-11-23/", False),
        ("/2026-11-22", True),
        ("/", True),
    ],
)
def test_the_windows_that_share_a_moment_with_the_choice_are_compared(text: str, touched: bool) -> None:
    chosen = scope((MIDNIGHT, budget()), chosen=read_window_filter(text, NOON))
    assert chosen.of_account(TODAY) is (None if touched else LeftOut.NOT_CHOSEN)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-22T10:00:00", "2026-11-23/2026-11-22"])
def test_a_choice_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"give now|not a time|no UTC offset|ends before"):
        read_window_filter(text, NOON)


def test_the_span_begins_with_the_oldest_window_that_may_be_compared() -> None:
    daily = scope((MIDNIGHT, budget()))
    assert daily.span() == (MIDNIGHT - COMPARED_AFTER_CLOSE, None)
    one_day = scope((MIDNIGHT, budget()), chosen=WindowFilter(NOON, NOON))
    assert one_day.span() == (MIDNIGHT, MIDNIGHT + timedelta(days=1))
    for_ever = scope(
        (MIDNIGHT, budget()), (NOON, budget(id="all", period="lifetime")), chosen=WindowFilter(NOON, NOON)
    )
    assert for_ever.span()[1] is None
