"""The admission controller: decides, waits for what a decision depends on, reserves. Waits are bounded."""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

from prometheus_client import Counter

from spendmeter.domain.matching import Account
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.decide import ADMIT, Decision, Denied, Reserve, WaitForAcknowledgement
from spendmeter_gateway.admission.refusal import Refusal, refusal_of
from spendmeter_gateway.admission.reservation_attempt import AdmissionRequest, ReservationAttempt
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.model import Caller
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

REFUSED = Counter("spendmeter_refused_total", "Requests refused.", ["why"])
WAITED = Counter("spendmeter_waited_total", "Requests that waited for their decision.", ["how"])


class Unbounded:
    """A request of which only the caller is known."""

    def __init__(self) -> None:
        self.id: Hashable = object()

    def bound(self) -> Bound | None:
        """Unknown."""
        return None

    def is_unpriced(self) -> bool:
        """Unknown."""
        return False

    async def count(self) -> bool:
        """There is nothing to count."""
        return False

    def limit(self, output_tokens: int) -> None:
        """There is nothing to limit."""


class AdmissionController:
    """Admits requests of any loop, by what `views` know."""

    def __init__(
        self, settings: GatewaySettings, views: GatewayState, on_refused: Callable[[Refusal], None]
    ) -> None:
        self._settings, self._views, self._on_refused = settings, views, on_refused

    async def admit(
        self,
        caller: Caller,
        decide: Callable[[], Decision],
        asking: AdmissionRequest | None,
        *,
        holds: bool = True,
    ) -> Refusal | None:
        """Admit a request (None) or refuse it; `holds` is False if its calls will reserve by themselves."""
        decision: Decision | None = None
        if self._views.are_read:
            decision = decide()
            if decision is ADMIT:
                # Nearly all requests end here.
                return None
        if decision is None or isinstance(decision, WaitForAcknowledgement):
            decision = await self._decided(decide)
        if isinstance(decision, Reserve) and not holds:
            return None
        if isinstance(decision, Reserve):
            decision = await self._reserved(decision, decide, asking or Unbounded())
        return self.refuse(decision, caller) if isinstance(decision, Denied) else None

    async def _decided(self, decide: Callable[[], Decision]) -> Decision | None:
        """The decision, once what it depends on has arrived or the wait is over; None to admit."""
        begun = time.monotonic()
        waited: set[str] = set()
        while True:
            # Subscribe before deciding, so that no change is missed in between.
            news = self._views.notifier.subscribe()
            try:
                strict: tuple[Account, ...] = ()
                if self._views.are_read or _is_over(begun, self._settings.start_wait_ms):
                    decision = decide()
                    if not isinstance(decision, WaitForAcknowledgement):
                        return decision
                    strict = decision.strict
                    how, wait_ms = "acknowledgement", self._settings.ack_wait_ms
                else:
                    how, wait_ms = "start", self._settings.start_wait_ms
                if news is None or _is_over(begun, wait_ms):
                    # In doubt, never refuse.
                    return Reserve(strict) if strict else None
                if how not in waited:
                    waited.add(how)
                    WAITED.labels(how).inc()
                left_seconds = max(0.0, begun + wait_ms / 1000 - time.monotonic())
                await asyncio.wait([news], timeout=left_seconds)
            finally:
                if news is not None:
                    self._views.notifier.unsubscribe(news)

    async def _reserved(
        self, decision: Decision | None, decide: Callable[[], Decision], asking: AdmissionRequest
    ) -> Denied | None:
        """Reserve on the accounts that need it, waiting in line; decisions made meanwhile count, too."""
        attempt = ReservationAttempt(self._views.strict, asking, self._settings)
        has_waited = False
        try:
            while not isinstance(decision, Denied):
                refuse = attempt.attempt(self._views.budgets.book, _strict_of(decision))
                if (refuse is not None or not attempt.is_whole) and await attempt.counted():
                    # A tighter bound may fit.
                    continue
                if refuse is not None:
                    return refuse
                if not attempt.waits:
                    attempt.admitted()
                    return None
                if not has_waited:
                    has_waited = True
                    WAITED.labels("strict").inc()
                await attempt.turn()
                decision = decide()
            return decision
        finally:
            attempt.leave()

    def refuse(self, refuse: Denied, caller: Caller) -> Refusal:
        """Log and publish a refusal."""
        refusal = refusal_of(refuse, caller, datetime.now(UTC), self._settings.web_url)
        REFUSED.labels(refuse.why.value).inc()
        log.warning("refused %s", refusal.facts)
        self._on_refused(refusal)
        return refusal


def _strict_of(decision: Decision | None) -> tuple[Account, ...]:
    if isinstance(decision, Reserve):
        return decision.accounts
    return decision.strict if isinstance(decision, WaitForAcknowledgement) else ()


def _is_over(begun: float, wait_ms: int) -> bool:
    return time.monotonic() - begun >= wait_ms / 1000
