"""One request's way to a reservation under `strict` budgets: the amount that it needs, and its turn
in line.
"""

import asyncio
import time
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import Counter

from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Account, BudgetBook
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.admission.reservation_manager import ReservationManager, Wanted
from spendmeter_gateway.admission.reservations import Insufficient, Queued, Reserved
from spendmeter_gateway.settings import GatewaySettings

CLAMPED = Counter("spendmeter_clamped_total", "Requests whose maximum was lowered to what is left.")
UNBOUNDED = Counter("spendmeter_unbounded_total", "Requests under strict budgets that nothing bounds.")

# How often a waiting request tries again: an acknowledgement, which names no account, may make room.
_CHECK_AGAIN_SECONDS = 0.05
_NEVER_SECONDS = 3600.0


class AdmissionRequest(Protocol):
    """A request that asks for admission under `strict` budgets."""

    @property
    def id(self) -> Hashable:
        """The key of its hold, needed when it ends."""

    def bound(self) -> Bound | None:
        """The most that it may cost; None if unknown."""

    def is_unpriced(self) -> bool:
        """Whether it has no price: then it has no bound, but it does not count either."""

    async def count(self) -> bool:
        """Count its tokens, which needs milliseconds. False if that gives no tighter bound."""

    def limit(self, output_tokens: int) -> None:
        """Limit each of its answers to that many tokens."""


class ReservationAttempt:
    """One request in line: its turn, and what is known of its size."""

    def __init__(
        self, strict: ReservationManager, asking: AdmissionRequest, settings: GatewaySettings
    ) -> None:
        self._strict, self._asking = strict, asking
        self._ticket = strict.ticket()
        self._may_clamp = settings.strict_clamp
        self._deadline = time.monotonic() + settings.strict_wait_ms / 1000
        self._bound = asking.bound()
        self._is_counted = self._bound is None
        self._future: asyncio.Future[None] | None = None
        self._again_seconds = 0.0
        self._held: Reserved | None = None
        self._is_admitted = False
        if self._bound is None:
            UNBOUNDED.inc()

    def attempt(self, book: BudgetBook, accounts: Sequence[Account]) -> Denied | None:
        """Reserve, or wait in line (then `waits` is true), or be refused."""
        if self._bound is None:
            for account in accounts:
                if account.budget.unpriced == "block" or not self._is_stated(account):
                    return self._unbounded(account, book)
        waits = time.monotonic() < self._deadline
        outcome, wanted, self._future = self._strict.reserve(
            self._asking.id, self._bound, book, accounts, self._ticket, waits
        )
        self._held = outcome if isinstance(outcome, Reserved) else None
        if isinstance(outcome, Queued):
            self._again_seconds = _seconds_to_next_check(wanted)
        return _refusal(outcome, wanted) if isinstance(outcome, Insufficient) else None

    @property
    def is_whole(self) -> bool:
        """Whether the last attempt reserved everything that was requested."""
        return not self.waits and not (self._held is not None and self._held.is_clamped)

    @property
    def waits(self) -> bool:
        """Whether the last attempt put the request in line."""
        return self._future is not None

    async def counted(self) -> bool:
        """Count the request's tokens if that was not done; returns whether another attempt is worthwhile."""
        if self._is_counted:
            return False
        self._is_counted = True
        if await self._asking.count():
            self._bound = self._asking.bound()
            return True
        return False

    async def turn(self) -> None:
        """Return when it may be this request's turn, or when it has waited long enough."""
        if self._future is not None:
            left_seconds = max(0.0, self._deadline - time.monotonic())
            await asyncio.wait([self._future], timeout=min(left_seconds, self._again_seconds))

    def admitted(self) -> None:
        """The request goes ahead, limited to what it holds."""
        self._is_admitted = True
        bound, held = self._bound, self._held
        if bound is None or held is None or not self._may_clamp:
            return
        if held.is_clamped:
            CLAMPED.inc()
        if held.is_clamped or not bound.is_enforced:
            self._asking.limit(held.output_tokens)

    def leave(self) -> None:
        """Leave the line: the request goes ahead, was refused, or its client has left."""
        self._strict.leave(self._ticket)
        if not self._is_admitted:
            self._strict.release(self._asking.id)

    def _is_stated(self, account: Account) -> bool:
        """Whether the budget says how an unbounded request counts: as a flat amount, or not at all."""
        return account.budget.unpriced_flat_nanousd() > 0 or self._asking.is_unpriced()

    def _unbounded(self, account: Account, book: BudgetBook) -> Denied | None:
        now = datetime.now(UTC)
        window = book.present_window(account.budget, now)
        limit = account.budget.limit_at(now)
        return Denied(Why.UNBOUNDED, account, window, NanoUsd(0), limit, None)


def _seconds_to_next_check(wanted: Sequence[Wanted]) -> float:
    if any(one.need.doubtful_nanousd for one in wanted):
        return _CHECK_AGAIN_SECONDS
    now = datetime.now(UTC)
    ends = [one.window.end for one in wanted if one.window.end is not None]
    return max(0.0, (min(ends) - now).total_seconds()) if ends else _NEVER_SECONDS


def _refusal(short: Insufficient, wanted: Sequence[Wanted]) -> Denied:
    one = next(one for one in wanted if one.need is short.need)
    need = short.need
    is_reached = need.certain_nanousd >= need.limit_nanousd
    return Denied(
        Why.LIMIT_REACHED if is_reached else Why.NO_ROOM,
        one.account,
        one.window,
        NanoUsd(need.certain_nanousd),
        NanoUsd(need.limit_nanousd),
        one.known,
        NanoUsd(short.held_nanousd),
        NanoUsd(short.least_nanousd),
    )
