"""A cache of windows by rule: budgets are many, their rules are few."""

from datetime import datetime

from spendmeter.contract.budget import Budget
from spendmeter.domain.window import Window, window_of

# When full, clear it: an LRU costs more than computing the windows again.
MAX_REMEMBERED_RULES = 10_000

_Rule = tuple[str, str, datetime | None, datetime | None]


class WindowCache:
    """The latest window of each rule."""

    def __init__(self) -> None:
        self._windows: dict[_Rule, Window] = {}

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """As `window.window_of`, which reads nothing else of the budget."""
        rule = (budget.period, budget.timezone, budget.starts_at, budget.reset_at)
        known = self._windows.get(rule)
        if known is not None and known.holds(time):
            return known
        window = window_of(budget, time)
        if window is not None:
            if len(self._windows) >= MAX_REMEMBERED_RULES:
                self._windows.clear()
            self._windows[rule] = window
        return window
