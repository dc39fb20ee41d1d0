"""Pending spend, with lock and clock: answers that LiteLLM has not logged yet."""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from threading import RLock
from typing import NamedTuple
from uuid import UUID

from prometheus_client import Counter, Gauge

from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import Subject, subject_of
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker

log = logging.getLogger(__name__)

PENDING = Gauge("spendmeter_pending", "Answers that count although LiteLLM has not logged them yet.")
UNLOGGED = Counter("spendmeter_unlogged_answers_total", "Answers not logged within pending_max_seconds.")
MISJUDGED = Counter(
    "spendmeter_misjudged_answers_total", "Events whose cost or subject differs from that of their answers."
)
UNPLACED = Counter("spendmeter_unplaced_answers_total", "Answers beyond MAX_PENDING, known once logged.")


class AnsweredCall(NamedTuple):
    """The expected event of an answer."""

    cost_nanousd: int
    subject: Subject

    def note_event(self, event: UsageEvent) -> None:
        """Log it if the event differs: LiteLLM logged something other than it answered."""
        if (event.cost_nanousd, subject_of(event)) != self:
            MISJUDGED.inc()
            log.warning(
                "event %s was answered at %d nano-USD for %s, and logged at %d for %s",
                event.event_id,
                self.cost_nanousd,
                self.subject,
                event.cost_nanousd,
                subject_of(event),
            )


class Pending:
    """The answers of a gateway, shared by threads under the lock of its state."""

    def __init__(self, max_seconds: float, lock: RLock, spend: SpendTracker) -> None:
        self._max_seconds, self._lock, self._spend = max_seconds, lock, spend

    def add(self, event: UsageEvent, charges: Sequence[Charge]) -> bool:
        """Count an event that will be recorded; False if there is no room. The caller holds the lock."""
        answered = AnsweredCall(event.cost_nanousd, subject_of(event))
        if not self._spend.answer(event.event_id, answered, charges, time.monotonic()):
            UNPLACED.inc()
            return False
        PENDING.set(self._spend.pending_count)
        return True

    def settle(self, event_id: UUID) -> AnsweredCall | None:
        """Stop counting an event that is being recorded, or never will be; returns its answer. The caller
        holds the lock.
        """
        answered = self._spend.settle(event_id)
        if not isinstance(answered, AnsweredCall):
            return None
        PENDING.set(self._spend.pending_count)
        return answered

    def of(self, account: str, window_start: datetime) -> dict[UUID, int]:
        """The pending events in that window of an account, with their cost in nano-USD."""
        with self._lock:
            return dict(self._spend.pending(account, window_start))

    def expire(self, now_seconds: float) -> None:
        """Stop counting what has been pending for too long: its log event may have been lost."""
        with self._lock:
            unlogged = self._spend.expire(now_seconds - self._max_seconds)
            PENDING.set(self._spend.pending_count)
        for event_id in unlogged:
            UNLOGGED.inc()
            log.warning("event %s was answered, but LiteLLM has not logged it: it no longer counts", event_id)
