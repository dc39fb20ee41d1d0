"""Which windows are compared, and why the others are not. Pure.

A total rests on the budget as it was when the events were folded. Where the budget changed in the middle of a
window, history recounted under the present budget says nothing about that total, so the revisions of every
budget decide which windows can be compared at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from spendmeter.contract.budget import ANY, Budget
from spendmeter.domain.matching import BudgetBook, rest_account
from spendmeter.domain.window import Window, window_of
from spendmeter.values.account import subject_in
from spendmeter.values.times import parse_time
from spendmeter_sinks.reconcile.totals import ComparedWindow


class Revision(NamedTuple):
    """A record of spend.budgets; no budget if it was removed."""

    budget_id: str
    budget: Budget | None
    stored_at: datetime
    """By the clock of history, and never before the broker had it: the budget's own clock may be wrong."""


@dataclass(slots=True)
class CountingPeriod:
    """The time in which a budget has counted what it counts now."""

    began: datetime
    """The budget was in force for every record appended after this."""
    shape: str
    """Empty once the budget was removed."""
    earlier: dict[str, Budget] = field(default_factory=dict)
    """Its earlier definitions, one budget per shape."""


def shape_of(budget: Budget) -> str:
    """The fields that decide where an event counts and for how much; no other change alters a total."""
    shape = budget.model_dump_json(include={"match", "period", "timezone", "starts_at", "reset_at"})
    # The flat amount of an unpriced request changes amounts.
    return f"{shape} {budget.unpriced_flat_nanousd()}"


def counting_periods(revisions: Iterable[Revision]) -> dict[str, CountingPeriod]:
    """The present counting period of every budget that ever existed."""
    periods: dict[str, CountingPeriod] = {}
    latest: dict[str, Budget] = {}
    for budget_id, budget, stored_at in revisions:
        shape = shape_of(budget) if budget else ""
        period = periods.get(budget_id)
        if period is None:
            periods[budget_id] = CountingPeriod(stored_at, shape)
        elif period.shape != shape:
            if budget_id in latest:
                # After a removal the same shape also counts as an earlier one: nothing was counted in
                # between.
                period.earlier[shape_of(latest[budget_id])] = latest[budget_id]
            period.began, period.shape = max(period.began, stored_at), shape
        if budget is not None:
            latest[budget_id] = budget
    return periods


def replaced_until(revisions: Iterable[Revision]) -> dict[str, datetime]:
    """For each budget that another one ever replaced: when this last changed for any of its subjects."""
    known: dict[str, tuple[str, str] | None] = {}
    ever: dict[str, set[str]] = {}
    changed_at: dict[str, datetime] = {}
    for budget_id, budget, stored_at in revisions:
        now = (budget.replaces or "", budget.model_dump_json(include={"match"})) if budget else None
        if budget and budget.replaces:
            ever.setdefault(budget_id, set()).add(budget.replaces)
        if known.get(budget_id) != now:
            changed_at[budget_id] = max(stored_at, changed_at.get(budget_id, stored_at))
        known[budget_id] = now
    until: dict[str, datetime] = {}
    for replacing, replaced in ever.items():
        for budget_id in replaced:
            until[budget_id] = max(changed_at[replacing], until.get(budget_id, changed_at[replacing]))
    return until


# The stream forgets a window seven days after its end; one day less avoids that moment.
COMPARED_AFTER_CLOSE = timedelta(days=6)
# Between the clocks of ClickHouse and the brokers, which stamp budgets and events.
CLOCKS_APART = timedelta(seconds=10)


class LeftOut(StrEnum):
    """Why a window is not compared."""

    BUDGET_GONE = "the budget is no longer in force"
    OTHER_SHAPE = "the budget was changed and has no such window or account any more"
    REST = "the sum of values beyond the number of accounts that a budget may have"
    CHANGED_WITHIN = "the budget was changed while the window ran, and kept the window's beginning"
    REPLACED_WITHIN = "while the window ran, another budget began or ceased to replace this one"
    CHANGED_MEANWHILE = "the budget was changed during the comparison"
    CLOSED_LONG_AGO = "the window ended more than 6 days ago, and the stream keeps it for 7"
    NOT_CHOSEN = "not among the windows that --window names"
    OPENING = "the window still lacks what was spent before the budget was counted"
    OVER = "the window is over, and its last signal need not follow its last total"


class WindowFilter(NamedTuple):
    """The windows to compare: those that share a moment with `[start, end]`; None has no bound."""

    start: datetime | None = None
    end: datetime | None = None

    def touches(self, window: Window) -> bool:
        return (self.start is None or window.end is None or self.start < window.end) and (
            self.end is None or window.start <= self.end
        )


def read_window_filter(text: str, now: datetime) -> WindowFilter:
    """Read `now`, a moment, or `START/END` where either may be left out.

    A moment is RFC 3339 (`2026-11-22T10:00:00Z`) or a date, which stands for its midnight in UTC.

    Raises:
        ValueError: none of these, or an end before its start.
    """
    start, slash, end = text.partition("/")
    if not slash:
        moment = _moment(text, now)
        if moment is None:
            raise ValueError("give now, a moment such as 2026-11-22T10:00:00Z, or START/END")
        return WindowFilter(moment, moment)
    chosen = WindowFilter(_moment(start, now), _moment(end, now))
    if chosen.start is not None and chosen.end is not None and chosen.end < chosen.start:
        raise ValueError(f"{text!r} ends before it starts")
    return chosen


def _moment(text: str, now: datetime) -> datetime | None:
    if not text:
        return None
    if text == "now":
        return now
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return parse_time(text)


class Scope:
    """Decides, window by window, under the budgets of one moment."""

    def __init__(
        self,
        book: BudgetBook,
        periods: Mapping[str, CountingPeriod],
        replaced_until: Mapping[str, datetime],
        chosen: WindowFilter,
        now: datetime,
    ) -> None:
        self.book = book
        self._periods = periods
        self._replaced_until = replaced_until
        self._chosen = chosen
        self._now = now
        self._known: dict[tuple[str, datetime], LeftOut | None] = {}

    def of_account(self, where: ComparedWindow) -> LeftOut | None:
        """Why this account's window is not compared; None if it is."""
        budget = self.book.get(where.budget_id)
        if budget is None:
            return LeftOut.BUDGET_GONE
        window = window_of(budget, where.window_start)
        if window is None or window.start != where.window_start:
            return LeftOut.OTHER_SHAPE
        if where.account == rest_account(budget):
            return LeftOut.REST
        if not _fits(budget, where.account):
            return LeftOut.OTHER_SHAPE
        return self.of_window(budget, window)

    def of_window(self, budget: Budget, window: Window) -> LeftOut | None:
        """Why a window of the budget is not compared; None if it is."""
        at = (budget.id, window.start)
        if at not in self._known:
            self._known[at] = self._decide(budget, window)
        return self._known[at]

    def is_over(self, where: ComparedWindow, now: datetime) -> bool:
        """Whether that window of a budget in force has ended."""
        budget = self.book.get(where.budget_id)
        window = window_of(budget, where.window_start) if budget else None
        return window is not None and window.end is not None and window.end <= now

    def in_force_for_all_after(self, budget_id: str) -> datetime | None:
        """A moment after which appended records were folded under the budget; None if unknown."""
        period = self._periods.get(budget_id)
        return period.began + CLOCKS_APART if period else None

    def span(self) -> tuple[datetime | None, datetime | None]:
        """The time range of events in compared windows; None is an open end."""
        oldest = self._now - COMPARED_AFTER_CLOSE
        if self._chosen.start is not None:
            oldest = max(oldest, self._chosen.start)
        starts = [_window_from(budget, oldest).start for budget in self.book]
        end = self._chosen.end
        ends = [_window_from(budget, end).end for budget in self.book] if end is not None else [None]
        closed = [moment for moment in ends if moment is not None]
        return min(starts, default=None), max(closed) if closed and len(closed) == len(ends) else None

    def _decide(self, budget: Budget, window: Window) -> LeftOut | None:
        if not self._chosen.touches(window):
            return LeftOut.NOT_CHOSEN
        if window.end is not None and window.end + COMPARED_AFTER_CLOSE < self._now:
            return LeftOut.CLOSED_LONG_AGO
        replaced = self._replaced_until.get(budget.id)
        if replaced is not None and window.start <= replaced + CLOCKS_APART:
            return LeftOut.REPLACED_WITHIN
        period = self._periods.get(budget.id)
        if (
            period
            and window.start <= period.began
            and any(_begins(b, window) for b in period.earlier.values())
        ):
            return LeftOut.CHANGED_WITHIN
        return None


def _window_from(budget: Budget, time: datetime) -> Window:
    """The window of that time, or the first one if the budget had not begun by then."""
    found = window_of(budget, max(time, budget.starts_at or time))
    assert found is not None, "a budget has a window from its beginning on"
    return found


def _begins(earlier: Budget, window: Window) -> bool:
    """Whether totals of the budget's earlier shape may have the same window start."""
    before = window_of(earlier, window.start)
    return before is not None and before.start == window.start


def _fits(budget: Budget, account: str) -> bool:
    subject = subject_in(account)
    return set(subject) == set(budget.match) and all(
        wanted in (ANY, subject[dimension]) for dimension, wanted in budget.match.items()
    )
