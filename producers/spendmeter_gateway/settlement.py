"""Settlement: each call of an ended exchange gets its event and releases its hold, logged or not.

LiteLLM's log event settles nearly every call within milliseconds. This is for the others: calls that
LiteLLM logs as one, streams that the client left, abandoned attempts, answers that a guardrail kept back.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from prometheus_client import Counter, Gauge

from spendmeter.contract.usage import UsageEvent
from spendmeter.values.ids import made_at
from spendmeter_gateway.exchange import Call, Exchange, Outcome
from spendmeter_gateway.model import UsageDraft

log = logging.getLogger(__name__)

SETTLED = Counter(
    "spendmeter_settled_calls_total", "Calls recorded although LiteLLM did not log them.", ["outcome"]
)

UNSETTLED = Gauge(
    "spendmeter_unsettled_exchanges", "Requests that have ended and still have a call without an event."
)

SWEEP_EVERY_SECONDS = 0.25
LOGGED_WITHIN_SECONDS = 2.0
"""How long LiteLLM has, after the end of the exchange, to log a call that was cut."""
# Exchanges that wait for LiteLLM's log events; beyond this number the oldest are settled at once.
MAX_WAITING = 20_000


class Drafts(Protocol):
    """Makes usage events of calls that LiteLLM has not logged."""

    def answered(self, call: Call) -> UsageDraft | None:
        """The event of an answered call; None if it costs nothing."""

    def cut(self, call: Call) -> UsageDraft | None:
        """The event of an abandoned call: an estimate, at least of its input."""

    def estimated(self, call: Call) -> UsageDraft | None:
        """The same for any call, from its texts alone: its answer's usage may be unreadable."""


class _Ended(NamedTuple):
    exchange: Exchange
    drafts: Drafts
    at_seconds: float


class Settlement:
    """Ended exchanges, until all of their calls are settled."""

    def __init__(
        self,
        max_seconds: float,
        record: Callable[[UsageDraft, Hashable], UsageEvent | None],
        release: Callable[[Hashable], None],
        count: Callable[[UUID, UsageDraft, datetime], None],
        is_held: Callable[[Hashable], bool],
    ) -> None:
        """`max_seconds`: how long LiteLLM has to log an answer.

        `count` counts a call at a draft's cost until it is recorded, instead of its hold.
        """
        self._max_seconds, self._record, self._release = max_seconds, record, release
        self._count, self._is_held = count, is_held
        self._ended: deque[_Ended] = deque()
        self._waiting: deque[_Ended] = deque()

    def __len__(self) -> int:
        return len(self._ended) + len(self._waiting)

    def add(self, exchange: Exchange, drafts: Drafts) -> None:
        """Note that an exchange has ended, or one of its calls after that. Any thread."""
        while (request_id := exchange.consume_admitted()) is not None:
            # No call has inherited it, so nothing was sent for it.
            self._release(request_id)
        if exchange.open_calls():
            self._ended.append(_Ended(exchange, drafts, time.monotonic()))
            UNSETTLED.set(len(self))
        else:
            exchange.forget()

    async def run(self) -> None:
        """Settle what is due, for ever."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_SECONDS)
            self.sweep(time.monotonic())

    def sweep(self, now_seconds: float) -> None:
        """Settle what is due by now."""
        self._sweep(self._ended, now_seconds - LOGGED_WITHIN_SECONDS, is_last=False)
        self._sweep(self._waiting, now_seconds - self._max_seconds, is_last=True)
        while len(self) > MAX_WAITING:
            self._settle((self._waiting or self._ended).popleft(), is_last=True)
        UNSETTLED.set(len(self))

    def settle_all(self) -> None:
        """Settle everything at once, because the process ends."""
        for queue in (self._ended, self._waiting):
            while queue:
                self._settle(queue.popleft(), is_last=True)

    def _sweep(self, queue: deque[_Ended], before_seconds: float, *, is_last: bool) -> None:
        while queue and queue[0].at_seconds <= before_seconds:
            self._settle(queue.popleft(), is_last=is_last)

    def _settle(self, ended: _Ended, *, is_last: bool) -> None:
        exchange = ended.exchange
        for call in exchange.open_calls():
            if is_last or not _may_be_logged(call):
                self._end(call, ended.drafts)
        for call in exchange.open_calls():
            self._count_held(call, ended.drafts)
        if exchange.open_calls():
            self._waiting.append(ended)
        else:
            exchange.forget()

    def _count_held(self, call: Call, drafts: Drafts) -> None:
        """End the hold with its exchange: until LiteLLM logs the call, an estimate counts instead."""
        if self._is_held(call.id):
            draft = self._draft(call, drafts)
            if draft is not None:
                self._count(call.id, draft, made_at(call.id))

    def _draft(self, call: Call, drafts: Drafts) -> UsageDraft | None:
        is_answered = call.outcome is Outcome.ANSWERED
        if not is_answered and not call.sends and not call.exchange.output_bytes:
            return None
        try:
            return drafts.answered(call) if is_answered else drafts.cut(call)
        except Exception:
            log.exception("the usage of call %s cannot be read: it is estimated from its texts", call.id)
        try:
            return drafts.estimated(call)
        except Exception:
            log.exception("call %s could not be estimated: it costs nothing", call.id)
        return None

    def _end(self, call: Call, drafts: Drafts) -> None:
        if not call.exchange.claim(call):
            return
        draft = self._draft(call, drafts)
        if draft is None:
            self._release(call.id)
            return
        event = self._record(draft, call.id)
        if event is not None:
            SETTLED.labels(call.outcome.value).inc()
            call.recorded_nanousd, call.is_estimated = event.cost_nanousd, True


def _may_be_logged(call: Call) -> bool:
    """Whether LiteLLM will still log the call: it was answered, and nothing of the request is logged."""
    exchange = call.exchange
    return call.outcome is not Outcome.CUT and exchange.is_complete and not exchange.has_logged
