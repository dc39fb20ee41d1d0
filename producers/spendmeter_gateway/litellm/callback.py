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
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from spendmeter.contract.money import NanoUsd
from spendmeter.settings import load
from spendmeter_gateway.exchange import (
    Exchange,
    Exchanges,
    Outcome,
    current_call,
    current_exchange,
    enter_call,
)
from spendmeter_gateway.gateway import ERRORS, Gateway, the_gateway
from spendmeter_gateway.litellm.admission.request_admission import RequestAdmission
from spendmeter_gateway.litellm.compat import make_up_for_what_is_missing
from spendmeter_gateway.litellm.fields import mapping, text_or_none
from spendmeter_gateway.litellm.models import the_router
from spendmeter_gateway.litellm.payload.logged_call import request_id_of
from spendmeter_gateway.litellm.payload.provider_objects import has_ended
from spendmeter_gateway.litellm.recording.call_drafts import CallDrafts
from spendmeter_gateway.litellm.recording.call_recorder import CallRecorder
from spendmeter_gateway.litellm.releases import refuse_compromised
from spendmeter_gateway.litellm.request.controls import strip_final
from spendmeter_gateway.litellm.server.observation import observe
from spendmeter_gateway.litellm.server.refusal_response import refused
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

_SEARCH_EVERY_SECONDS = 1.0


class SpendmeterCallback(CustomLogger):  # type: ignore[misc]
    """Admission before a call, recording after it."""

    def __init__(self) -> None:
        super().__init__()
        # LiteLLM loads its callbacks while the server starts. Without a server's loop it only reads its
        # configuration, perhaps before a fork: then begin at the first request.
        is_starting = _has_loop()
        self._is_watching = False
        self._next_search = 0.0
        self._following: asyncio.Task[None] | None = None
        try:
            refuse_compromised()
            self._settings = load(GatewaySettings)
        except SystemExit:
            if is_starting:
                # The problems are on stderr. uvicorn would bury them in tracebacks and exit with 3.
                sys.stderr.flush()
                os._exit(2)
            raise
        make_up_for_what_is_missing()
        self._exchanges = Exchanges()
        self._admission = RequestAdmission(self._settings, self._exchanges, self._find_server)
        self._recorder = CallRecorder(self._settings, self._exchanges, CallDrafts(self._admission.model))
        if is_starting:
            self._gateway()
            self._watch()

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Mint the event's id and admit the request, or refuse it. LiteLLM needs it on the leaf class."""
        refusal = None
        try:
            refusal = await self._admission.admit(user_api_key_dict, cache, data, call_type)
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed; only what authentication says is enforced")
            refusal = await self._admission.admit_by_key(user_api_key_dict)
        if refusal is not None:
            raise refused(refusal)
        return data

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> None:
        """A call to a deployment begins: judge it where it really goes, and hold what it may cost there."""
        refusal = None
        try:
            exchange = self._exchange_of(kwargs)
            strip_final(kwargs)
            if exchange is not None:
                refusal = await self._admission.open(exchange, kwargs, _call_type(call_type, kwargs))
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
            self._recorder.ended(call.exchange)

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
        self._recorder.call_failed(call, request_data, sys.exc_info()[1] or exception)
        enter_call(call.parent)
        if call.exchange.has_ended:
            self._recorder.ended(call.exchange)

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: object
    ) -> None:
        """Count an answer from now on: LiteLLM may log it seconds later. Streams do not come here."""
        self._recorder.answered(data, response)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a call used, and with that settle it."""
        await self._recorder.record(kwargs, response_obj, end_time, is_success=True)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a failed attempt used, if anything. It is not the end: a retry may follow."""
        await self._recorder.record(kwargs, response_obj, end_time, is_success=False)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """A request has failed for good, after all retries and fallbacks: nothing is held for it now."""
        exchange = self._exchange_of(request_data)
        if exchange is not None:
            self._recorder.request_failed(exchange, original_exception)

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: object,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: object = None,
    ) -> list[dict[str, Any]]:
        """Leave the deployments whose budgets have something left; if none has, refuse or fall back."""
        try:
            exchange = self._exchange_of(request_kwargs or {})
            left, refusal = self._admission.deployments_left(exchange, healthy_deployments)
        except Exception:
            ERRORS.labels("routing").inc()
            log.exception("deployments could not be judged; all are left")
            return healthy_deployments
        if refusal is not None:
            raise refused(refusal)
        return left

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: UserAPIKeyAuth,
        response: object,
        request_headers: object = None,
        litellm_call_info: object = None,
    ) -> dict[str, str] | None:
        """Headers of an answer: what is left of the budget that has the least left."""
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

    def _exchange_of(self, data: Mapping[str, Any]) -> Exchange | None:
        """The exchange that a hook is called for: that of its context, else the one its metadata names."""
        return current_exchange() or self._exchanges.get(request_id_of(data))

    def _find_server(self) -> None:
        """A request has no exchange. In a program without a server none has, so search once in a while."""
        now = time.monotonic()
        if now >= self._next_search:
            self._next_search = now + _SEARCH_EVERY_SECONDS
            self._watch()

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = observe(self._recorder.ended)
            # Outside of the request that may be running: what is read there is no call of it.
            if self._following is None:
                follow = self._gateway().follower.run(_read_response)
                self._following = asyncio.get_running_loop().create_task(follow, context=Context())


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


async def _read_response(response_id: str) -> bool:
    router = the_router()
    return router is not None and has_ended(await router.aget_responses(response_id=response_id))


callback = SpendmeterCallback()
