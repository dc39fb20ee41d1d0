"""Which window a moment lies in, remembered by rule: budgets are many, the rules that they follow are few."""

from datetime import datetime

from spendmeter.contract.budget import Budget
from spendmeter.domain.window import Window, window_of

# Then all are forgotten, because to keep the latest costs more than to reckon them again.
MAX_REMEMBERED_RULES = 10_000

_Rule = tuple[str, str, datetime | None, datetime | None]


class Rules:
    """The latest window of each rule."""

    def __init__(self) -> None:
        self._windows: dict[_Rule, Window] = {}

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """As `window.window_of`, which looks at nothing else of the budget."""
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
