"""The charge cache: remembers the windows of a subject's events, so that its next event finds them at once.
Pure.

While no budget changes and no window ends, all events of a subject are charged to the same windows, each at
its cost. Only for an event without a price does each budget set the amount.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter_gateway.spend.charges import Charge, charges_of
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import WindowBalance

# When full, clear it: an LRU costs more than computing again.
MAX_REMEMBERED = 50_000


class _Charged(NamedTuple):
    """The windows that one event was charged to."""

    edition: int
    """Of the book."""
    since: datetime | None
    until: datetime | None
    windows: tuple[WindowBalance, ...]


class ChargeCache:
    """Remembers windows. The caller holds the lock under which budgets and spend change."""

    def __init__(self) -> None:
        self._charged: dict[Hashable, _Charged] = {}

    def where(
        self, event: UsageEvent, book: BudgetBook, spend: SpendTracker, now: datetime
    ) -> tuple[tuple[WindowBalance, ...], tuple[int, ...]]:
        """The windows that `charges_of` charges the event to, and each one's cost in nano-USD."""
        windows = self._known(event, book, now)
        if windows is not None:
            return windows, (event.cost_nanousd,) * len(windows)
        charges = charges_of(book, event, now)
        windows = spend.windows(charges)
        self._remember(event, book, charges, windows)
        return windows, tuple([int(charge.cost_nanousd) for charge in charges])

    def _known(self, event: UsageEvent, book: BudgetBook, now: datetime) -> tuple[WindowBalance, ...] | None:
        """The windows to which the event is sure to be charged, at its cost; None if unknown."""
        charged = self._charged.get(book.event_subject_key(event))
        if charged is None or charged.edition != book.edition or event.cost_source is CostSource.UNPRICED:
            return None
        if charged.since is not None and event.occurred_at < charged.since:
            return None
        if charged.until is not None and (event.occurred_at >= charged.until or now >= charged.until):
            return None
        for window in charged.windows:
            if window.is_dropped:
                return None
        return charged.windows

    def _remember(
        self,
        event: UsageEvent,
        book: BudgetBook,
        charges: Sequence[Charge],
        windows: tuple[WindowBalance, ...],
    ) -> None:
        """Remember only if each account was charged: one without a window may have one at another time."""
        if len(charges) < len(book.accounts_in(event)):
            return
        if len(self._charged) >= MAX_REMEMBERED:
            self._charged.clear()
        since = max((charge.window_start for charge in charges), default=None)
        until = min((charge.window_end for charge in charges if charge.window_end is not None), default=None)
        self._charged[book.event_subject_key(event)] = _Charged(book.edition, since, until, windows)
