"""SpendThresholds of a limit at which a program is told, so that it can slow down before it is stopped."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from decimal import Decimal
from threading import Lock
from typing import NamedTuple

# Windows are few, and one that is forgotten tells a second time at the worst.
MAX_WINDOWS_REMEMBERED = 10_000


class Reached(NamedTuple):
    """A fraction of a budget's limit that has been spent."""

    fraction: float
    budget: str
    spent_usd: Decimal
    limit_usd: Decimal


class SpendThresholds:
    """Calls back once for each fraction in each window of each account, the lowest first. Any thread."""

    def __init__(self, fractions: Iterable[float], callback: Callable[[Reached], None]) -> None:
        """Raises ValueError: a fraction is not above 0 and at most 1."""
        self._fractions = sorted(set(fractions))
        if not self._fractions or not all(0 < fraction <= 1 for fraction in self._fractions):
            raise ValueError("fractions of a limit are numbers above 0 and at most 1, such as 0.8")
        self._callback = callback
        self._told: OrderedDict[Hashable, set[float]] = OrderedDict()
        self._lock = Lock()

    def see(self, window: Hashable, budget: str, spent_usd: Decimal, limit_usd: Decimal) -> None:
        """Tell what has been reached and was not told yet; `window` names the account's window."""
        with self._lock:
            told = self._told.setdefault(window, set())
            self._told.move_to_end(window)
            if len(self._told) > MAX_WINDOWS_REMEMBERED:
                self._told.popitem(last=False)
            reached = [
                fraction
                for fraction in self._fractions
                if fraction not in told and spent_usd >= Decimal(repr(fraction)) * limit_usd
            ]
            told.update(reached)
        for fraction in reached:
            self._callback(Reached(fraction, budget, spent_usd, limit_usd))
