"""Dues: when an account is to be judged again though nothing happens to it. Pure."""

from collections.abc import Iterable
from datetime import datetime
from heapq import heapify, heappop, heappush

from spendmeter.contract.budget import Budget
from spendmeter.domain.window import Window
from spendmeter_stream.state import AccountWindow

# What was moved or dropped is swept out of the heap once it outnumbers the rest by this many.
MAX_STALE = 1_000


class Timers:
    """One moment at most for each account in a window; so there are never more than those."""

    def __init__(self) -> None:
        self._at: dict[AccountWindow, datetime] = {}
        self._heap: list[tuple[datetime, AccountWindow]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, where: AccountWindow) -> bool:
        return where in self._at

    def put(self, where: AccountWindow, at: datetime | None) -> None:
        """Judge it again then; None: nothing will change by itself."""
        if self._at.get(where) == at:
            return
        if at is None:
            del self._at[where]
            return
        self._at[where] = at
        heappush(self._heap, (at, where))
        if len(self._heap) > 2 * len(self._at) + MAX_STALE:
            self._heap = [(at, where) for where, at in self._at.items()]
            heapify(self._heap)

    def pop_due(self, now: datetime) -> Iterable[AccountWindow]:
        """Those whose moment has come."""
        while self._heap and self._heap[0][0] <= now:
            at, where = heappop(self._heap)
            if self._at.get(where) == at:
                del self._at[where]
                yield where


def next_change(budget: Budget, window: Window, exceeded: bool, now: datetime) -> datetime | None:
    """When the limit falls because a raise ends, or an exceeded account recovers because its window does."""
    if not exceeded and not budget.raises:
        return None
    moments = [r.until for r in budget.raises if r.until > now]
    if exceeded and window.end is not None:
        moments.append(window.end)
    return min(moments, default=None)
