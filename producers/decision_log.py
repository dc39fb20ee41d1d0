"""Refusals on their way to spend.decisions: kept in memory, sent by Kafka's thread, never waited for.

A refusal is no spend. So it is not worth a write to the outbox on the request path: a crash may
lose the last ones, and so may a Kafka that is away for long. Both leave the client its answer.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from heapq import nlargest
from operator import itemgetter
from uuid import UUID

from prometheus_client import Counter

from producers.admission import Refuse
from producers.delivery import Delivery, NotDelivered
from producers.refusal import Refusal
from producers.window_spend import Known
from spendmeter.contract.decision import MAX_NAMED, Decision, Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import encode_decision
from spendmeter.contract.topics import Topic
from spendmeter.runtime.kafka import batch_of
from spendmeter.runtime.settings import Settings

log = logging.getLogger(__name__)

LOST = Counter("spendmeter_decisions_lost_total", "Refusals that `spendmeter explain` will not know.")

MAX_WAITING = 10_000
# Nor more bytes than one Kafka batch holds.
MAX_SENT_AT_ONCE = 50
_RETRY_SECONDS = 1.0


def decision_of(
    refusal: Refusal, gateway: str, producer_id: str | None, seq: int, pending: Mapping[UUID, int]
) -> Decision:
    """The refusal as it stands on the wire.

    `producer_id` and `seq` are of the latest own event recorded, `pending` the cost of those that were to
    be, looked at before `seq`: one that was recorded in between is known by its `seq`.
    """
    refuse = refusal.refuse
    told = Decision(
        decision_id=refusal.id,
        decided_at=refusal.at,
        gateway=gateway,
        why=refuse.why,
        name=refusal.caller.name,
        message=refusal.message,
        producer_id=producer_id,
        seq=seq,
    )
    if refuse.account is None or refuse.window is None or refuse.known is None:
        return told
    return told.model_copy(
        update={
            "budget_id": refuse.account.budget.id,
            "revision": refuse.account.budget.revision,
            "account": refuse.account.name,
            "window_start": refuse.window.start,
            "window_end": refuse.window.end,
            "limit_nanousd": refuse.limit_nanousd,
            "spent_nanousd": refuse.spent_nanousd,
            "signal_nanousd": refuse.known.signal_nanousd,
            "held_nanousd": refuse.held_nanousd,
            "least_nanousd": refuse.least_nanousd,
            "watermark": refuse.known.watermark,
            "pending_nanousd": NanoUsd(refuse.known.pending_nanousd),
            "pending": _named(pending, _missing_nanousd(refuse, refuse.known)),
        }
    )


def _missing_nanousd(refuse: Refuse, known: Known) -> int:
    """What the refusal would lack without anything that was pending."""
    reached = refuse.spent_nanousd - known.pending_nanousd
    if refuse.why is Why.NO_ROOM:
        reached += refuse.held_nanousd + (refuse.least_nanousd or 0) - 1
    return refuse.limit_nanousd - reached


def _named(pending: Mapping[UUID, int], missing_nanousd: int) -> tuple[UUID, ...]:
    """The costliest of them, as many as add up to what is missing."""
    named: list[UUID] = []
    for event_id, cost_nanousd in nlargest(MAX_NAMED, pending.items(), key=itemgetter(1)):
        if missing_nanousd <= 0:
            break
        named.append(event_id)
        missing_nanousd -= cost_nanousd
    return tuple(named)


class DecisionLog:
    """`add` from any thread; `run` on the loop of Kafka's."""

    def __init__(self, settings: Settings) -> None:
        self._delivery = Delivery(settings, Topic.DECISIONS)
        self._waiting: deque[Decision] = deque()
        self._sending: list[Decision] = []
        self._news, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, decision: Decision) -> None:
        """Take a decision to be sent; beyond MAX_WAITING it is lost and counted."""
        if len(self._waiting) >= MAX_WAITING:
            LOST.inc()
            return
        self._waiting.append(decision)
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    async def run(self) -> None:
        """Send until cancelled; what is not known to be stored is sent again, under the same id."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                while self._sending or self._waiting:
                    await self._send_some()
                self._idle.set()
                await self._news.wait()
                self._news.clear()
        finally:
            await self._delivery.close()

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until all that was added is stored, or for that long. On the loop that `run` runs on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)

    def _wake(self) -> None:
        self._idle.clear()
        self._news.set()

    async def _send_some(self) -> None:
        while self._waiting and len(self._sending) < MAX_SENT_AT_ONCE:
            self._sending.append(self._waiting.popleft())
        # They may be long: names that a client chooses are in them.
        batch = batch_of(encode_decision(one) for one in self._sending)
        try:
            await self._delivery.send({0: batch})
            del self._sending[: len(batch)]
        except NotDelivered as error:
            log.warning("decisions cannot be sent, trying again: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)
