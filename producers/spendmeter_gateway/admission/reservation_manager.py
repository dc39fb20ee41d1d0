"""The reservations of a gateway under its lock, and the event loops of the requests that wait."""

import asyncio
import time
from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from threading import RLock
from typing import NamedTuple

from prometheus_client import Counter, Gauge

from spendmeter.domain.matching import Account, BudgetBook
from spendmeter.domain.window import Window
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.reservations import (
    Insufficient,
    Queued,
    Requirement,
    Reservations,
    Reserved,
)
from spendmeter_gateway.loops import complete
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.tracker import SpendTracker, WindowKey
from spendmeter_gateway.spend.window_balance import KnownSpend

HOLDS = Gauge("spendmeter_holds", "Running requests under strict budgets, each with a hold.")
EXPIRED = Counter(
    "spendmeter_holds_expired_total", "Holds dropped for their age, after a request whose end was missed."
)

SWEEP_EVERY_SECONDS = 5.0
# Beyond it, a request that would wait is decided at once.
MAX_IN_LINE = 10_000


class Wanted(NamedTuple):
    """One account that a request must fit into."""

    account: Account
    window: Window
    known: KnownSpend
    need: Requirement


class ReservationManager:
    """The reservations of a gateway, shared by threads under the lock of its state."""

    def __init__(self, settings: GatewaySettings, lock: RLock, spend: SpendTracker) -> None:
        self._settings = settings
        self.lock = lock
        self._spend = spend
        self.holds = Reservations()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def ticket(self) -> int:
        """A number in the order of arrival."""
        with self.lock:
            return self.holds.ticket()

    def release(self, request: Hashable) -> None:
        """The request has ended. The caller counts its cost in the same hold of the lock."""
        with self.lock:
            if request in self.holds:
                self.wake(self.holds.release(request))
                HOLDS.set(len(self.holds))

    def wake(self, keys: Iterable[WindowKey]) -> None:
        """Let the first in line there try again. The caller holds the lock."""
        for key in keys:
            first = self.holds.first(key)
            future = None if first is None else self._waiting.pop(first, None)
            if future is not None:
                complete(future)

    def wake_all(self) -> None:
        """Like `wake`, in every line: a budget has changed."""
        with self.lock:
            self.wake(self.holds.lines())

    async def sweep(self) -> None:
        """Drop holds that are too old, for ever."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_SECONDS)
            self.expire(time.monotonic())

    def expire(self, now_seconds: float) -> None:
        """Drop the holds that are too old by now."""
        with self.lock:
            for freed in self.holds.expire(now_seconds - self._settings.hold_max_seconds):
                EXPIRED.inc()
                self.wake(freed)
            HOLDS.set(len(self.holds))

    def reserve(
        self,
        request: Hashable,
        bound: Bound | None,
        book: BudgetBook,
        accounts: Sequence[Account],
        ticket: int,
        waits: bool,
    ) -> tuple[Reserved | Queued | Insufficient | None, list[Wanted], "asyncio.Future[None] | None"]:
        """Try to reserve; returns also the facts behind the result, and a future that ends a wait."""
        with self.lock:
            wanted = self._wanted(book, accounts, bound)
            if not wanted:
                return None, wanted, None
            outcome = self.holds.reserve(
                request,
                [one.need for one in wanted],
                ticket,
                time.monotonic(),
                may_clamp=self._settings.strict_clamp,
                waits=waits and len(self._waiting) < MAX_IN_LINE,
            )
            if isinstance(outcome, Queued):
                future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
                return outcome, wanted, future
            if isinstance(outcome, Reserved):
                HOLDS.set(len(self.holds))
                self.wake(outcome.freed)
            return outcome, wanted, None

    def leave(self, ticket: int) -> None:
        """Remove the owner of that ticket from the line."""
        with self.lock:
            self._waiting.pop(ticket, None)
            self.wake(self.holds.leave(ticket))

    def _wanted(self, book: BudgetBook, accounts: Sequence[Account], bound: Bound | None) -> list[Wanted]:
        now = datetime.now(UTC)
        wanted = []
        for account in accounts:
            window = book.present_window(account.budget, now)
            one = bound if bound is not None else _flat(account)
            if window is not None and one is not None:
                known = self._spend.known(account.name, window.start)
                need = Requirement(
                    (account.name, window.start),
                    account.budget.limit_at(now),
                    known.certain_nanousd,
                    known.doubtful_nanousd,
                    one,
                )
                wanted.append(Wanted(account, window, known, need))
        return wanted


def _flat(account: Account) -> Bound | None:
    """The amount held for a request without a bound: the budget's flat amount, if it has one."""
    flat = account.budget.unpriced_flat_nanousd()
    return Bound(flat * FEMTO_PER_NANO, 0, 0, 0, 0, True) if flat else None
