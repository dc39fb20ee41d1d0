"""The callback that one line attaches to a LiteLLM proxy; it decides nothing.

    litellm_settings:
      callbacks: spendmeter_gateway.callback

Only the asynchronous log hooks exist: with the synchronous ones LiteLLM would log some routes twice.
LiteLLM may load this file a second time as a copy (its file route), so it keeps no state: the
gateway lives in spendmeter_gateway.gateway.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextvars import Context
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litellm.integrations.custom_logger import CustomLogger
from litellm.llms.base_llm.chat.transformation import BaseLLMException
from litellm.proxy._types import UserAPIKeyAuth
from openai import APIError
from prometheus_client import Counter

from spendmeter.contract.ids import made_at, uuid7
from spendmeter.contract.money import NanoUsd
from spendmeter.runtime.settings import load
from spendmeter_gateway.admission.cost_bound import Model
from spendmeter_gateway.admission.decide import cannot_be_metered, lacks
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.exchange import (
    CALLS_AT_ADMISSION,
    Call,
    Exchange,
    Exchanges,
    Outcome,
    current_call,
    current_exchange,
    enter_call,
)
from spendmeter_gateway.gateway import ERRORS, Gateway, the_gateway
from spendmeter_gateway.litellm import objects as litellm_objects
from spendmeter_gateway.litellm.asgi import install
from spendmeter_gateway.litellm.authentication import observe_authentication
from spendmeter_gateway.litellm.call_drafts import CallDrafts, as_sent, charged_to
from spendmeter_gateway.litellm.compat import litellm_status, make_up_for_what_is_missing
from spendmeter_gateway.litellm.errors import refused
from spendmeter_gateway.litellm.key_cache import KeyCache
from spendmeter_gateway.litellm.models import (
    deployment_called,
    deployment_in_router,
    deployment_of,
    deployments_of,
    is_list_of_models,
    listed_prices,
    model_of,
    models_of,
)
from spendmeter_gateway.litellm.payload import provider_objects
from spendmeter_gateway.litellm.payload.failures import was_cut
from spendmeter_gateway.litellm.payload.fields import fields_of, finish_time, mapping, text, text_or_none
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall, read_log_event, request_id_of
from spendmeter_gateway.litellm.payload.pass_through import UsageChunkFilter, ask_for_usage
from spendmeter_gateway.litellm.payload.provider_objects import Sighting
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.litellm.proxy import request_of, the_router
from spendmeter_gateway.litellm.releases import refuse_compromised
from spendmeter_gateway.litellm.request.admission_request import LitellmAdmissionRequest
from spendmeter_gateway.litellm.request.caller import missing, who_asks
from spendmeter_gateway.litellm.request.controls import apply_controls, strip_final
from spendmeter_gateway.litellm.request.event_id import put_event_id
from spendmeter_gateway.litellm.request.free_deployments import served_at, served_by
from spendmeter_gateway.litellm.request.free_requests import is_free, is_free_at, is_free_route
from spendmeter_gateway.litellm.request.pass_through_route import deployment_at
from spendmeter_gateway.litellm.response import answer_of
from spendmeter_gateway.litellm.streams import observe_estimates, observe_streams, response_id_of
from spendmeter_gateway.model import Caller, UsageDraft
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

STRIPPED = Counter("spendmeter_stripped_requests_total", "Requests with a control taken out of their body.")


_ERRORS_OF_PROVIDERS = (APIError, BaseLLMException)
"""As LiteLLM maps them; and its own, which it leaves as they are where a stream is read late."""


class SpendmeterCallback(CustomLogger):  # type: ignore[misc]
    """Admission before a call, recording after it."""

    def __init__(self) -> None:
        super().__init__()
        # LiteLLM loads its callbacks while the server starts. Without a server's loop only the
        # configuration is being looked at, perhaps before a fork: then begin at the first request.
        is_starting = _has_loop()
        self._drafts = CallDrafts(self._model)
        self._exchanges = Exchanges()
        self._is_watching = False
        self._keys: KeyCache | None = None
        self._following: asyncio.Task[None] | None = None
        try:
            refuse_compromised()
            self._settings = load(GatewaySettings)
        except SystemExit:
            if is_starting:
                # The problems have just been told. uvicorn would bury them in tracebacks and exit with 3.
                sys.stderr.flush()
                os._exit(2)
            raise
        make_up_for_what_is_missing()
        if is_starting:
            self._gateway()
            self._watch()

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Mint the event's id and admit the request, or refuse it. LiteLLM looks for it on the leaf class."""
        refusal = None
        try:
            refusal = await self._admit(user_api_key_dict, cache, data, call_type)
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed; only what authentication says is enforced")
            refusal = await self._admit_by_key(user_api_key_dict)
        if refusal is not None:
            raise refused(refusal)
        return data

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> None:
        """A call to a deployment begins: judge it where it really goes, and hold what it may cost there."""
        refusal = None
        try:
            exchange = self._exchange_of(kwargs)
            strip_final(kwargs)
            if exchange is not None and self._is_owned(exchange):
                refusal = await self._open(exchange, kwargs, _call_type(call_type, kwargs))
        except Exception:
            ERRORS.labels("routing").inc()
            log.exception("a call could not be judged; it goes ahead")
        if refusal is not None:
            raise refused(refusal)

    def log_pre_api_call(self, model: object, messages: object, kwargs: dict[str, Any]) -> None:
        """A request goes to a provider, whatever led to it."""
        call = current_call()
        if call is not None:
            call.sends += 1

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: object
    ) -> None:
        """A call was answered. Streams do not come here."""
        call = current_call()
        if call is None:
            return
        call.answered(response)
        enter_call(call.parent)
        if call.exchange.has_ended:
            self._ended(call.exchange)

    async def async_post_call_streaming_deployment_hook(
        self, request_data: dict[str, Any], response_chunk: Any, call_type: object
    ) -> None:
        """The last chunk of a stream: it says what was used, also where LiteLLM will not log it."""
        exchange = current_exchange()
        usage = getattr(response_chunk, "usage", None)
        if usage is None:
            usage = mapping(getattr(response_chunk, "_hidden_params", None)).get("usage")
        if exchange is not None and usage is not None and getattr(usage, "prompt_tokens", None):
            exchange.stream_ended(current_call(), usage, text_or_none(getattr(response_chunk, "id", None)))

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Exception, call_type: object, fallback_depth: int | None = None
    ) -> None:
        """A call has failed: nothing is billed for it, unless it was given up after it had been sent."""
        call = current_call()
        if call is None or call.outcome is not Outcome.RUNNING:
            return
        if call.sends and was_cut(sys.exc_info()[1] or exception):
            call.outcome = Outcome.CUT
        else:
            call.exchange.give_back(call)
        enter_call(call.parent)
        if call.exchange.has_ended:
            self._ended(call.exchange)

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: object
    ) -> None:
        """Count an answer from now on: LiteLLM may log it seconds later. Streams do not come here."""
        try:
            exchange = self._exchange_of(data)
            if exchange is None:
                return
            if exchange.caller is not None:
                litellm_objects.note_made(self._gateway(), exchange.caller, data, response)
            if len(self._gateway().views.budgets.book):
                self._count_answers(exchange, data, response)
            if not exchange.is_watched:
                exchange.has_ended = exchange.is_complete = True
                self._ended(exchange)
        except Exception:
            ERRORS.labels("answering").inc()
            log.exception("an answer could not be counted; its event will be")

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a call used, and with that settle it."""
        await self._record(kwargs, response_obj, end_time, is_success=True)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a failed attempt used, if anything. It is not the end: a retry may follow."""
        await self._record(kwargs, response_obj, end_time, is_success=False)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """A request has failed for good, after all retries and fallbacks: nothing is held for it now."""
        exchange = self._exchange_of(request_data)
        if exchange is None:
            return
        exchange.has_logged = True
        self._failed(exchange, original_exception, CALLS_AT_ADMISSION)
        self._stream_failed(exchange, original_exception)
        if not exchange.is_watched:
            exchange.has_ended = True
            self._ended(exchange)
            return
        while (request_id := exchange.consume_admitted()) is not None:
            self._gateway().release(request_id)

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: object,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: object = None,
    ) -> list[dict[str, Any]]:
        """Leave the deployments whose budgets have something left; if none has, refuse or fall back."""
        refusal = None
        try:
            routes, exchange = self._gateway().routes, self._exchange_of(request_kwargs or {})
            if exchange is None or exchange.caller is None or not routes.are_judged:
                return healthy_deployments
            found = routes.refused(
                exchange.caller, [deployment_in_router(one) for one in healthy_deployments]
            )
            left = [one for one, refuse in zip(healthy_deployments, found, strict=True) if refuse is None]
            if left or not found or found[0] is None:
                return left
            refusal = routes.refusal(found[0], exchange.caller)
            exchange.refusals.append(refusal)
        except Exception:
            ERRORS.labels("routing").inc()
            log.exception("deployments could not be judged; all are left")
            return healthy_deployments
        raise refused(refusal)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: UserAPIKeyAuth,
        response: object,
        request_headers: object = None,
        litellm_call_info: object = None,
    ) -> dict[str, str] | None:
        """Tell, on an answer, what is left of the budget that has the least left."""
        routes = self._gateway().routes
        exchange = self._exchange_of(data) if response is not None and routes.are_shown else None
        if exchange is None or exchange.caller is None:
            return None
        standing = routes.standing(exchange.caller)
        return None if standing is None else standing.headers

    async def budgets_read(self) -> None:
        """Return once every budget that Kafka has stored by now is being enforced. Raises KafkaError."""
        await self._gateway().budgets_read()

    def spent_nanousd(self, account: str) -> NanoUsd | None:
        """What is known to be spent in the account's present window; None where nothing is known."""
        return self._gateway().views.spent(account)

    async def close(self) -> None:
        """Hand Kafka what is recorded, bounded. For whoever ends the proxy; LiteLLM has no hook for it."""
        await asyncio.to_thread(self._gateway().stop)

    def _gateway(self) -> Gateway:
        return the_gateway(self._settings)

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = install(self._ended, litellm_status)
            observe_authentication(_authenticated)
            observe_streams(_stream_begins, _stream_waits)
            observe_estimates(_usage_estimated)
            # Outside of the request that may be running: what is read there is no call of it.
            if self._following is None:
                follow = self._gateway().follower.run(_read_response)
                self._following = asyncio.get_running_loop().create_task(follow, context=Context())

    def _known_keys(self, gateway: Gateway) -> KeyCache:
        if self._keys is None or self._keys.adopter is not gateway.adopter:
            # The first request, or the first in a process that was forked: it has a gateway of its own.
            self._keys = KeyCache(gateway.adopter, gateway.name, self._settings.client_values)
        return self._keys

    def _ended(self, exchange: Exchange) -> None:
        self._gateway().exchange_ended(exchange, self._drafts)

    def _exchange_of(self, data: Mapping[str, Any]) -> Exchange | None:
        """The exchange that a hook is called for: that of its context, else the one its metadata names."""
        return current_exchange() or self._exchanges.get(request_id_of(data))

    async def _admit(
        self, auth: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> Refusal | None:
        controls = apply_controls(data, is_under_budget=True)
        if controls.stripped:
            STRIPPED.inc()
            log.info("taken out of a request's body, since it could change owner, price or log: %s", controls)
        gateway = self._gateway()
        request = request_of(self._known_keys(gateway), auth, cache, data)
        caller = request.caller
        exchange = current_exchange()
        if exchange is None:
            # A server that the wrapper could not be put around: metadata names the exchange.
            self._watch()
            exchange = Exchange()
        request_id = exchange.begin(caller)
        if not exchange.is_watched:
            self._exchanges.put(request_id, exchange)
        put_event_id(data, str(request_id))
        exchange.is_list = is_list_of_models(data, call_type)
        lacking = missing(caller, request.fields, self._settings.client_values)
        if lacking and not is_free_route(call_type, exchange.method, exchange.path):
            exchange.consume_admitted(request_id)
            exchange.refusals.append(gateway.routes.refusal(lacks(lacking[0]), caller))
            return exchange.refusals[-1]
        if controls.unmetered and gateway.views.may_refuse(caller.subject):
            exchange.consume_admitted(request_id)
            refuse = cannot_be_metered(controls.unmetered[0])
            exchange.refusals.append(gateway.routes.refusal(refuse, caller))
            return exchange.refusals[-1]
        if call_type in CALLS_AT_ADMISSION:
            # No hook for a deployment follows.
            return await self._open_at_admission(exchange, caller, request_id, data, call_type)
        if gateway.admits_at_once(caller):
            # The way of nearly all requests.
            return None
        if is_free(
            call_type,
            exchange.method,
            exchange.path,
            data,
            lambda name: served_by(the_router(), name, caller.subject.team, gateway.price_book),
        ):
            return None
        asking = LitellmAdmissionRequest(
            request_id,
            data,
            call_type,
            lambda: self._models(caller.subject.model_group, caller),
            self._settings,
        )
        # Of a list each is judged, and holds what it may cost, by itself.
        refusal = await gateway.admit(
            caller, lambda: _deployments(caller), asking, holds=not exchange.is_list
        )
        if refusal is not None:
            exchange.consume_admitted(request_id)
            exchange.refusals.append(refusal)
        return refusal

    async def _admit_by_key(self, auth: UserAPIKeyAuth) -> Refusal | None:
        """The last resort: by what a key, user, team or organization may spend."""
        try:
            caller = who_asks(fields_of(auth), self._settings.gateway)
            exchange = current_exchange()
            if exchange is not None and exchange.caller is None:
                exchange.begin(caller)
            refusal = await self._gateway().admit(caller)
            if exchange is not None and refusal is not None:
                exchange.refusals.append(refusal)
            return refusal
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed altogether; the request is let through")
            return None

    async def _open_at_admission(
        self, exchange: Exchange, caller: Caller, request_id: UUID, data: dict[str, Any], call_type: str
    ) -> Refusal | None:
        gateway = self._gateway()
        if exchange.is_watched and ask_for_usage(exchange.path, data):
            exchange.usage_filter = UsageChunkFilter()
        deployment = deployment_at(exchange.path, data)
        call = exchange.open(caller, deployment, call_type, data, None, request_id)
        enter_call(call)
        is_free = is_free_route(call_type, exchange.method, exchange.path)
        if is_free or gateway.routes.admits_at_once(caller, deployment):
            return None
        refusal = await gateway.routes.admit(
            caller, deployment, self._asking(call, data, call_type), is_admitted=False
        )
        if refusal is not None:
            call.outcome = Outcome.VOID
            exchange.refusals.append(refusal)
        return refusal

    async def _open(self, exchange: Exchange, kwargs: dict[str, Any], call_type: str) -> Refusal | None:
        routes, caller = self._gateway().routes, exchange.caller
        if caller is None:
            return None
        parent = current_call()
        is_first = not exchange.calls
        call = exchange.open(caller, deployment_called(kwargs), call_type, kwargs, parent)
        is_same = call.deployment.model_group == caller.subject.model_group
        if is_first and is_same and not routes.are_judged:
            # As its request, a moment ago.
            enter_call(call)
            return None
        if not routes.admits_at_once(caller, call.deployment) and not self._is_free(call):
            refusal = await routes.admit(
                caller, call.deployment, self._asking(call, kwargs, call_type), is_admitted=is_first
            )
            if refusal is not None:
                exchange.give_back(call)
                exchange.refusals.append(refusal)
                return refusal
        enter_call(call)
        return None

    def _asking(self, call: Call, arguments: dict[str, Any], call_type: str) -> LitellmAdmissionRequest:
        return LitellmAdmissionRequest(
            call.id, arguments, call_type, lambda: [self._model(call)], self._settings
        )

    def _failed(self, exchange: Exchange, error: object, call_types: Container[str]) -> None:
        """What failed without a hook of its own: pass-through calls, and streams that had begun."""
        for call in exchange.open_calls():
            if call.outcome is Outcome.RUNNING and call.call_type in call_types:
                if isinstance(error, BaseException) and not was_cut(error):
                    exchange.give_back(call)
                else:
                    call.outcome = Outcome.CUT

    def _stream_failed(self, exchange: Exchange, error: object) -> None:
        """A stream that failed before its first byte. Only a provider's error says what it costs."""
        streams = [c for c in exchange.open_calls() if c.is_streamed and c.outcome is Outcome.RUNNING]
        if len(streams) == 1 and not exchange.output_bytes and isinstance(error, _ERRORS_OF_PROVIDERS):
            self._failed(exchange, error, (streams[0].call_type,))

    def _is_owned(self, exchange: Exchange) -> bool:
        """Whether it is known who pays; where no request was admitted, authentication alone says so."""
        if exchange.caller is None and exchange.auth is not None:
            exchange.caller = who_asks(fields_of(exchange.auth), self._settings.gateway)
        return exchange.caller is not None

    def _is_free(self, call: Call) -> bool:
        book = self._gateway().price_book
        return is_free_at(call.call_type, served_at(the_router(), call.deployment, book))

    def _model(self, call: Call) -> Model:
        deployment = deployment_of(call.arguments)
        return model_of(the_router(), deployment, call.deployment.model_group, self._gateway().price_book)

    def _models(self, name: str | None, caller: Caller) -> Sequence[Model]:
        return models_of(the_router(), name, caller.subject.team, self._gateway().price_book)

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

    async def _record(
        self, kwargs: dict[str, Any], response: object, end_time: object, *, is_success: bool
    ) -> None:
        try:
            now = datetime.now(UTC)
            logged = read_log_event(kwargs)
            minted = logged.request_id
            exchange = current_exchange() or self._exchanges.get(minted)
            finished_at = finish_time(end_time, now)
            seen = provider_objects.sighting_in(logged, response, litellm_objects.decrypt)
            if seen is not None and await self._record_object(exchange, seen, logged, finished_at):
                return
            if exchange is None:
                self._record_alone(logged, minted, finished_at, is_success=is_success)
            elif self._is_owned(exchange):
                self._record_in(exchange, logged, finished_at, is_success=is_success)
            elif is_success:
                self._record_alone(logged, None, finished_at, is_success=True)
            # Else somebody who is not authenticated: a failure that cost nothing and belongs to nobody.
        except Exception:
            ERRORS.labels("recording").inc()
            log.exception("an event could not be recorded")

    async def _record_object(
        self, exchange: Exchange | None, seen: Sighting, logged: LoggedCall, finished_at: datetime
    ) -> bool:
        """Record the bill of an object, if its call is one; whether the object has a bill of its own."""
        gateway = self._gateway()
        caller = exchange.caller if exchange is not None and self._is_owned(exchange) else None
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
        event_id, ends = minted or uuid7(_unix_ms()), minted if is_success else None
        draft = usage_of(logged, event_id=event_id, occurred_at=finished_at, listed=listed_prices)
        if draft is not None:
            self._gateway().record(draft, ends)
        elif ends is not None:
            self._gateway().release(ends)

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
            if draft is not None:
                self._gateway().record(_charged_to_caller(draft, exchange), request_id)
            elif request_id is not None:
                self._gateway().release(request_id)
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
        gateway = self._gateway()
        if not call.exchange.claim(call):
            self._record_rest(call, draft)
        elif draft is None:
            gateway.release(call.id)
        else:
            event = gateway.record(draft, call.id)
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
        self._stream_failed(exchange, logged.exception)
        draft = usage_of(logged, event_id=exchange.request_id, occurred_at=finished_at, listed=listed_prices)
        if draft is None:
            return
        if draft.fields["cost_nanousd"] and any(c.is_recorded or c.is_open for c in exchange.calls):
            # A guardrail kept the answer back, and LiteLLM logs what it cost with the failure.
            exchange.has_logged = True
            return
        self._gateway().record(_charged_to_caller(draft, exchange))


def _call_logged(exchange: Exchange, logged: LoggedCall) -> Call | None:
    """The call that a log event is about; None where it is about none that is known."""
    for call in exchange.calls:
        call.response_id = call.response_id or response_id_of(call.stream)
    return exchange.find(logged.call_type, logged.response_id, logged.deployment)


def _charged_to_caller(draft: UsageDraft, exchange: Exchange) -> UsageDraft:
    caller = exchange.caller
    if caller is None:
        return draft
    return draft._replace(fields={**draft.fields, **caller.event_fields})


def _call_type(given: object, kwargs: Mapping[str, Any]) -> str:
    """LiteLLM hands over None for a type that its own list lacks; its logging object knows it."""
    if given is None:
        given = getattr(kwargs.get("litellm_logging_obj"), "call_type", None)
    return str(getattr(given, "value", given) or "")


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _deployments(caller: Caller) -> list[str]:
    """The ids of every deployment that the proxy's router may send the request to."""
    listed = deployments_of(the_router(), caller.subject.model_group or "", caller.subject.team)
    return [text(mapping(one.get("model_info")).get("id")) for one in listed]


def _authenticated(auth: object) -> None:
    exchange = current_exchange()
    if exchange is not None:
        exchange.auth = auth


async def _read_response(response_id: str) -> bool:
    router = the_router()
    return router is not None and provider_objects.has_ended(
        await router.aget_responses(response_id=response_id)
    )


def _stream_begins(stream: object) -> None:
    call = current_call()
    if call is not None and call.stream is None:
        call.stream = stream


def _usage_estimated() -> None:
    exchange = current_exchange()
    for call in () if exchange is None else exchange.open_calls():
        if call.is_streamed and call.stream is None:
            call.lacks_usage = True


def _stream_waits() -> Callable[[], None]:
    call = current_call()
    if call is None or not call.sends:
        return lambda: None
    call.sends -= 1

    def send() -> None:
        call.sends += 1

    return send


callback = SpendmeterCallback()
