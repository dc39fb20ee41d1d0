"""Gauges of budgets: of the accounts of this worker, those that are closest to their limit.

A worker may have 100,000 accounts, and Prometheus keeps a series of each that it once met. So their number is
bounded, and neither a signal nor a metrics page goes through all accounts: a heap has them in order.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.registry import Collector

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import Window
from spendmeter.values.account import budget_id_of, has_subject, subject_in

MAX_STALE = 1_000
"""The heap is rebuilt once outdated entries outnumber the others by this many."""
MAX_DROPPED = 10_000
"""Accounts whose window has ended that one call of `closest` drops: at midnight it may be all of them."""

_NANO = 10**9
_STATES = {State.OK: 0, State.WARNING: 1, State.EXCEEDED: 2}


class RankedAccount(NamedTuple):
    """What the latest signal of an account says; the first in order is the closest to its limit."""

    negative_share: float
    """Minus the share of the limit that is spent."""
    account: str
    window_start: datetime
    limit_nanousd: NanoUsd
    spent_nanousd: NanoUsd
    state: State


class ClosestAccounts:
    """Accounts by the share of their limit that is spent. An outdated entry is dropped when it is met."""

    def __init__(self, at_most: int, dimensions: Collection[str]) -> None:
        """`at_most`: how many are wanted. An account that names other dimensions than these is left out."""
        self._at_most = at_most
        self._dimensions = frozenset(dimensions)
        self._ranked: dict[str, RankedAccount] = {}
        self._heap: list[RankedAccount] = []

    def __len__(self) -> int:
        return len(self._ranked)

    def apply(self, signals: Iterable[Signal], withdrawn: Iterable[str] = ()) -> None:
        """Rank accounts by their new signals; drop those whose signal was withdrawn."""
        for signal in signals if self._at_most else ():
            if self._dimensions.issuperset(signal.subject):
                ranked = RankedAccount(
                    -signal.spent_nanousd / signal.limit_nanousd,
                    signal.account,
                    signal.window_start,
                    signal.limit_nanousd,
                    signal.spent_nanousd,
                    signal.state,
                )
                self._ranked[signal.account] = ranked
                heappush(self._heap, ranked)
        for account in withdrawn:
            self._ranked.pop(account, None)
        if len(self._heap) > 2 * len(self._ranked) + MAX_STALE:
            self._heap = list(self._ranked.values())
            heapify(self._heap)

    def closest(self, book: BudgetBook, now: datetime) -> list[tuple[RankedAccount, Window]] | None:
        """The accounts closest to their limit in the present window, and that window.

        None while too many have to be dropped first: call again.
        """
        found: list[tuple[RankedAccount, Window]] = []
        dropped = 0
        while self._heap and len(found) < self._at_most and dropped < MAX_DROPPED:
            ranked = heappop(self._heap)
            if self._ranked.get(ranked.account) is not ranked:
                # A later signal has another entry.
                continue
            window = _present_window(ranked, book, now)
            if window is None:
                # Until a signal says otherwise, nothing is spent in the window that follows.
                del self._ranked[ranked.account]
                dropped += 1
            else:
                found.append((ranked, window))
        for ranked, _ in found:
            heappush(self._heap, ranked)
        return found if dropped < MAX_DROPPED else None

    def clear(self) -> None:
        """Drop all accounts."""
        self._ranked.clear()
        self._heap.clear()


def _present_window(ranked: RankedAccount, book: BudgetBook, now: datetime) -> Window | None:
    """The window of the signal, if it is the budget's present one."""
    budget = book.get(budget_id_of(ranked.account))
    if budget is None or (budget.match and not has_subject(ranked.account)):
        # Without a subject it adds up what has no account of its own, and the limit is for one.
        return None
    window = book.present_window(budget, now)
    return window if window is not None and window.start == ranked.window_start else None


class BudgetGauges(Collector):
    """The gauges on the metrics page. Shown by the worker's loop, read by the page's thread."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._shown: tuple[tuple[RankedAccount, Window], ...] = ()

    def show(self, closest: Iterable[tuple[RankedAccount, Window]]) -> None:
        """Show these accounts from now on, each until its window ends."""
        self._shown = tuple(closest)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metrics page's samples; all values are finite."""
        now = self._clock()
        limit = GaugeMetricFamily("spendmeter_budget_limit_usd", "Limit of the account, raises included.")
        spent = GaugeMetricFamily("spendmeter_budget_spent_usd", "Spent by the account in its window.")
        remaining = GaugeMetricFamily(
            "spendmeter_budget_remaining_usd", "Limit less spend; negative once more was spent."
        )
        reset = GaugeMetricFamily(
            "spendmeter_budget_reset_seconds", "Until the window of the account ends; none for a lifetime."
        )
        state = GaugeMetricFamily(
            "spendmeter_budget_state", "State of the account: 0 ok, 1 warning, 2 exceeded."
        )
        for ranked, window in self._shown:
            if window.end is not None and window.end <= now:
                continue
            labels = {"budget": budget_id_of(ranked.account), **subject_in(ranked.account)}
            left = ranked.limit_nanousd - ranked.spent_nanousd
            limit.add_sample(limit.name, labels, ranked.limit_nanousd / _NANO)
            spent.add_sample(spent.name, labels, ranked.spent_nanousd / _NANO)
            remaining.add_sample(remaining.name, labels, left / _NANO)
            state.add_sample(state.name, labels, _STATES[ranked.state])
            if window.end is not None:
                reset.add_sample(reset.name, labels, (window.end - now).total_seconds())
        yield from (limit, spent, remaining, reset, state)


SHOWN = BudgetGauges()
REGISTRY.register(SHOWN)
