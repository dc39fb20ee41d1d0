"""What LiteLLM answers and logs of the proxy's calls: each is one event, for whoever is authenticated."""

import logging
import time
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litellm.llms.base_llm.chat.transformation import BaseLLMException
from openai import APIError

from spendmeter.values.ids import made_at, uuid7
from spendmeter_gateway.exchange import (
    CALLS_AT_ADMISSION,
    Call,
    Exchange,
    Exchanges,
    Outcome,
    current_exchange,
)
from spendmeter_gateway.gateway import ERRORS, Gateway, the_gateway
from spendmeter_gateway.litellm.fields import finish_time, mapping
from spendmeter_gateway.litellm.models import listed_prices
from spendmeter_gateway.litellm.payload import provider_objects
from spendmeter_gateway.litellm.payload.failures import was_cut
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall, read_log_event, request_id_of
from spendmeter_gateway.litellm.payload.provider_objects import Sighting
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.litellm.recording import objects as litellm_objects
from spendmeter_gateway.litellm.recording.call_drafts import CallDrafts, as_sent, charged_to
from spendmeter_gateway.litellm.recording.response import answer_of
from spendmeter_gateway.litellm.recording.streams import response_id_of
from spendmeter_gateway.litellm.request.caller import payer_of
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_ERRORS_OF_PROVIDERS = (APIError, BaseLLMException)
"""As LiteLLM maps them; and its own, which it leaves as they are where a stream is read late."""


class CallRecorder:
    """Counts calls when they are answered and records them when LiteLLM logs them. It never raises."""

    def __init__(self, settings: GatewaySettings, exchanges: Exchanges, drafts: CallDrafts) -> None:
        self._settings, self._exchanges, self._drafts = settings, exchanges, drafts

    def answered(self, data: Mapping[str, Any], response: object) -> None:
        """Count the answer to a request from now on: LiteLLM may log it seconds later."""
        try:
            exchange = current_exchange() or self._exchanges.get(request_id_of(data))
            if exchange is None:
                return
            if exchange.caller is not None:
                litellm_objects.note_made(self._gateway(), exchange.caller, data, response)
            if len(self._gateway().views.budgets.book):
                self._count_answers(exchange, data, response)
            if not exchange.is_watched:
                exchange.is_complete = True
                self.ended(exchange)
        except Exception:
            ERRORS.labels("answering").inc()
            log.exception("an answer could not be counted; its event will be")

    def call_failed(self, call: Call, data: object, error: BaseException) -> None:
        """Nothing is billed for a call that failed, unless it was given up after it had been sent."""
        was_answered = _was_answered(data)
        if call.sends and was_cut(error, was_answered=was_answered, earlier_error=call.earlier_error):
            call.outcome = Outcome.CUT
        else:
            call.exchange.give_back(call)

    def request_failed(self, exchange: Exchange, error: Exception) -> None:
        """A request has failed for good, after all retries and fallbacks: nothing is held for it now."""
        exchange.has_logged = True
        _failed(exchange, error, CALLS_AT_ADMISSION)
        _stream_failed(exchange, error)
        if not exchange.is_watched:
            self.ended(exchange)
            return
        while (request_id := exchange.consume_admitted()) is not None:
            self._gateway().release(request_id)

    def ended(self, exchange: Exchange) -> None:
        """An exchange is over: what LiteLLM does not log of it is settled soon."""
        exchange.has_ended = True
        self._gateway().exchange_ended(exchange, self._drafts)

    async def record(
        self, kwargs: dict[str, Any], response: object, end_time: object, *, is_success: bool
    ) -> None:
        """Record what LiteLLM logs; a failure is one attempt's and not the end: a retry may follow."""
        try:
            logged, now = read_log_event(kwargs), datetime.now(UTC)
            minted = logged.request_id
            exchange = current_exchange() or self._exchanges.get(minted)
            finished_at = finish_time(end_time, now)
            seen = provider_objects.sighting_in(logged, response, litellm_objects.decrypt)
            if seen is not None and await self._record_object(exchange, seen, logged, finished_at):
                return
            if exchange is None:
                self._record_alone(logged, minted, finished_at, is_success=is_success)
            elif payer_of(exchange, self._settings.gateway) is not None:
                self._record_in(exchange, logged, finished_at, is_success=is_success)
            elif is_success:
                self._record_alone(logged, None, finished_at, is_success=True)
            # Else somebody who is not authenticated: a failure that cost nothing and belongs to nobody.
        except Exception:
            ERRORS.labels("recording").inc()
            log.exception("an event could not be recorded")

    def _gateway(self) -> Gateway:
        return the_gateway(self._settings)

    def _count_answers(self, exchange: Exchange, data: Mapping[str, Any], response: object) -> None:
        answered = [
            call for call in exchange.open_calls() if call.outcome is Outcome.ANSWERED and not call.is_pending
        ]
        is_one = not exchange.made_several
        for call in answered:
            draft = self._drafts_at_answer(call, data, response) if is_one else self._drafts.answered(call)
            if draft is not None:
                call.is_pending = True
                self._gateway().answered(call.id, draft, made_at(call.id))

    def _drafts_at_answer(self, call: Call, data: Mapping[str, Any], response: object) -> UsageDraft | None:
        answer = answer_of(data, response)
        if answer is None or provider_objects.is_billed_apart(call.call_type, call.arguments):
            return None
        draft = usage_of(answer, event_id=call.id, occurred_at=datetime.now(UTC))
        return None if draft is None else charged_to(draft, call)

    async def _record_object(
        self, exchange: Exchange | None, seen: Sighting, logged: LoggedCall, finished_at: datetime
    ) -> bool:
        """Record the bill of an object, if its call is one; whether the object has a bill of its own."""
        gateway = self._gateway()
        caller = None if exchange is None else payer_of(exchange, self._settings.gateway)
        call = None if exchange is None else _call_logged(exchange, logged)
        deployment = None if call is None else call.deployment
        bill = await litellm_objects.bill_of(gateway, seen, caller, deployment, logged, finished_at)
        if not bill.is_due:
            return False
        if exchange is not None:
            exchange.has_logged = True
            # No event has the call's own id: nothing is held or counted for it any longer.
            request_id = exchange.consume_admitted() if call is None else call.id
            if request_id is not None and (call is None or exchange.claim(call)):
                gateway.release(request_id)
        if bill.draft is not None:
            gateway.record(bill.draft)
            gateway.objects.billed(seen.object_id)
        return True

    def _record_alone(
        self, logged: LoggedCall, minted: UUID | None, finished_at: datetime, *, is_success: bool
    ) -> None:
        """Of what no exchange is known for: jobs of LiteLLM's own, and requests of long ago."""
        event_id = minted or uuid7(time.time_ns() // 1_000_000)
        draft = usage_of(logged, event_id=event_id, occurred_at=finished_at, listed=listed_prices)
        self._gateway().settle(draft, minted if is_success else None)

    def _record_in(
        self, exchange: Exchange, logged: LoggedCall, finished_at: datetime, *, is_success: bool
    ) -> None:
        if not is_success:
            self._record_failure(exchange, logged, finished_at)
            return
        exchange.has_logged = True
        call = _call_logged(exchange, logged)
        if call is None:
            request_id = exchange.consume_admitted()
            draft = usage_of(
                logged,
                event_id=request_id or exchange.request_id,
                occurred_at=finished_at,
                listed=listed_prices,
            )
            self._gateway().settle(draft and _charged_to_caller(draft, exchange), request_id)
            return
        # LiteLLM mixes up the calls of a list: its log event has the prices of any, even of one refused.
        is_mixed_up = exchange.made_several or (exchange.is_list and call.outcome is Outcome.ANSWERED)
        draft = self._drafts.answered(call) if is_mixed_up else None
        if draft is None:
            logged = as_sent(logged, call)
            draft = usage_of(logged, event_id=call.id, occurred_at=finished_at, listed=listed_prices)
            draft = None if draft is None else self._drafts.logged(call, draft)
        else:
            draft = draft._replace(fields={**draft.fields, "occurred_at": finished_at})
        self._settle(call, draft)

    def _settle(self, call: Call, draft: UsageDraft | None) -> None:
        if not call.exchange.claim(call):
            self._record_rest(call, draft)
            return
        event = self._gateway().settle(draft, call.id)
        call.recorded_nanousd = 0 if event is None else event.cost_nanousd

    def _record_rest(self, call: Call, draft: UsageDraft | None) -> None:
        """LiteLLM logs a call that was settled without it: what it cost beyond the estimate counts, too."""
        if draft is None or not call.is_estimated:
            return
        rest = draft.fields["cost_nanousd"] - call.recorded_nanousd
        if rest > 0:
            call.recorded_nanousd += rest
            counts = {name: 0 for name in draft.fields if name.endswith("_tokens")}
            fields = {**draft.fields, **counts, "cost_nanousd": rest}
            self._gateway().record(draft._replace(fields=fields))

    def _record_failure(self, exchange: Exchange, logged: LoggedCall, finished_at: datetime) -> None:
        """An attempt that failed: what was cut is settled when the exchange ends."""
        _stream_failed(exchange, logged.exception)
        draft = usage_of(logged, event_id=exchange.request_id, occurred_at=finished_at, listed=listed_prices)
        if draft is None:
            return
        if draft.fields["cost_nanousd"] and any(c.is_recorded or c.is_open for c in exchange.calls):
            # A guardrail kept the answer back, and LiteLLM logs what it cost with the failure.
            exchange.has_logged = True
            return
        self._gateway().record(_charged_to_caller(draft, exchange))


def _was_answered(data: object) -> bool:
    """Whether LiteLLM has noted what the provider answered, before it failed to make an answer of it."""
    details = getattr(mapping(data).get("litellm_logging_obj"), "model_call_details", None)
    return bool(mapping(details).get("original_response"))


def _failed(exchange: Exchange, error: object, call_types: Container[str]) -> None:
    """What failed without a hook of its own: pass-through calls, and streams that had begun."""
    for call in exchange.open_calls():
        if call.outcome is Outcome.RUNNING and call.call_type in call_types:
            if isinstance(error, BaseException) and not was_cut(error, earlier_error=call.earlier_error):
                exchange.give_back(call)
            else:
                call.outcome = Outcome.CUT


def _stream_failed(exchange: Exchange, error: object) -> None:
    """A stream that failed before its first byte. Only a provider's error says what it costs."""
    streams = [c for c in exchange.open_calls() if c.is_streamed and c.outcome is Outcome.RUNNING]
    if len(streams) == 1 and not exchange.output_bytes and isinstance(error, _ERRORS_OF_PROVIDERS):
        _failed(exchange, error, (streams[0].call_type,))


def _call_logged(exchange: Exchange, logged: LoggedCall) -> Call | None:
    """The call that a log event is about; None where it is about none that is known."""
    for call in exchange.calls:
        call.response_id = call.response_id or response_id_of(call.stream)
    return exchange.find(logged.call_type, logged.response_id, logged.deployment)


def _charged_to_caller(draft: UsageDraft, exchange: Exchange) -> UsageDraft:
    fields = exchange.caller.event_fields if exchange.caller is not None else {}
    return draft._replace(fields={**draft.fields, **fields})
