"""The callback that one line attaches to a LiteLLM proxy; it decides nothing.

    litellm_settings:
      callbacks: producers.litellm_callback.spendmeter

Only the asynchronous log hooks exist: with the synchronous ones LiteLLM would log some routes twice.
LiteLLM may load this file a second time as a copy (its file route), so it keeps no state: the
gateway lives in producers.gateway.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from producers import litellm_answer
from producers.estimate import Model
from producers.gateway import ERRORS, Gateway, the_gateway
from producers.litellm_asking import LitellmAsking
from producers.litellm_models import (
    deployment_of,
    deployments_of,
    listed_prices,
    model_group_of,
    model_of,
    models_of,
    named,
)
from producers.litellm_proxy import caller_asking, the_router
from producers.litellm_refusal import refused
from producers.mapping import event_id_of, usage_of
from producers.minting import put_event_id
from producers.payload import mapping, text
from producers.routes import Route
from producers.settings import GatewaySettings
from producers.subject import Caller
from spendmeter.contract.ids import uuid7, uuid7_text
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.times import EPOCH
from spendmeter.price_book import PriceBook
from spendmeter.runtime.settings import load

log = logging.getLogger(__name__)


class SpendmeterCallback(CustomLogger):  # type: ignore[misc]
    """Admission before a call, recording after it."""

    def __init__(self) -> None:
        super().__init__()
        # LiteLLM loads its callbacks while the server starts. Without a server's loop only the
        # configuration is being looked at, perhaps before a fork: then begin at the first request.
        is_starting = _has_loop()
        try:
            self._settings = load(GatewaySettings)
        except SystemExit:
            if is_starting:
                # The problems have just been told. uvicorn would bury them in tracebacks and exit with 3.
                sys.stderr.flush()
                os._exit(2)
            raise
        if is_starting:
            self._gateway()

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Mint the event's id and admit the request, or refuse it. LiteLLM looks for it on the leaf class."""
        refusal = None
        try:
            # With it, a client would switch the meter off.
            data.pop("no-log", None)
            request_id = uuid7_text(_unix_ms())
            put_event_id(data, request_id)
            gateway = self._gateway()
            caller = caller_asking(gateway.keys, user_api_key_dict, cache, data)
            if gateway.admits_at_once(caller):
                # The way of nearly all requests.
                return data
            book = gateway.price_book
            asking = LitellmAsking(
                UUID(request_id), data, call_type, lambda: _models(caller, book), self._settings
            )
            refusal = await gateway.admit(caller, lambda: _deployments(caller), asking)
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed; the request is let through")
        if refusal is not None:
            raise refused(refusal)
        return data

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: UserAPIKeyAuth, response: object
    ) -> None:
        """Count an answer from now on: LiteLLM may log it seconds later. Streams do not come here."""
        try:
            if (request_id := _request_id(data)) is not None:
                litellm_answer.tell(self._gateway(), request_id, data, response)
        except Exception:
            ERRORS.labels("answering").inc()
            log.exception("an answer could not be counted; its event will be")

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a request used, and with that end it."""
        self._record(kwargs, end_time, ends=event_id_of(kwargs))

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a failed attempt used, if anything. It is not the end: a retry may follow."""
        self._record(kwargs, end_time, ends=None)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """A request has failed for good, after all retries and fallbacks: nothing is held for it now."""
        request_id = _request_id(request_data)
        if request_id is not None:
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
            routes, request_id = self._gateway().routes, _request_id(request_kwargs or {})
            found = routes.refused(request_id, [Route(*named(one)) for one in healthy_deployments])
            left = [one for one, refuse in zip(healthy_deployments, found, strict=True) if refuse is None]
            if left or not found or found[0] is None:
                return left
            refusal = routes.refusal(request_id, found[0])
        except Exception:
            ERRORS.labels("routing").inc()
            log.exception("deployments could not be judged; all are left")
            return healthy_deployments
        raise refused(refusal)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: object) -> None:
        """Judge the deployment that was chosen, and hold what the request may cost there."""
        refusal = None
        try:
            routes, request_id = self._gateway().routes, _request_id(kwargs)
            if request_id is None or not routes.is_of_interest(request_id):
                return
            router, group, book = the_router(), model_group_of(kwargs), self._gateway().price_book
            asking = LitellmAsking(
                request_id,
                kwargs,
                str(getattr(call_type, "value", call_type)),
                lambda: [model_of(router, deployment_of(kwargs), group or "", book)],
                self._settings,
            )
            refusal = await routes.admit(request_id, Route(*named({"litellm_params": kwargs})), group, asking)
        except Exception:
            ERRORS.labels("routing").inc()
            log.exception("a deployment could not be judged; the request goes ahead")
        if refusal is not None:
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
        standing = None if response is None else self._gateway().routes.standing(_request_id(data))
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

    def _record(self, kwargs: dict[str, Any], end_time: object, ends: UUID | None) -> None:
        try:
            now = datetime.now(UTC)
            # Batches and background polls have no pre-call hook, hence no id.
            event_id = ends or event_id_of(kwargs) or uuid7(_unix_ms())
            draft = usage_of(
                kwargs, event_id=event_id, occurred_at=_finished_at(end_time, now), listed=listed_prices
            )
            if draft is not None:
                self._gateway().record(draft, ends)
            elif ends is not None:
                self._gateway().release(ends)
        except Exception:
            ERRORS.labels("recording").inc()
            log.exception("an event could not be recorded")
            if ends is not None:
                self._gateway().release(ends)


def _request_id(data: dict[str, Any]) -> UUID | None:
    return event_id_of({"litellm_params": data})


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _finished_at(end_time: object, now: datetime) -> datetime:
    """When the request finished: decides the window. LiteLLM logs it a little later, with a local time."""
    return max(EPOCH, min(end_time.astimezone(UTC), now)) if isinstance(end_time, datetime) else now


def _deployments(caller: Caller) -> list[str]:
    """The ids of every deployment that the proxy's router may send the request to."""
    listed = deployments_of(the_router(), caller.subject.model_group or "", caller.subject.team)
    return [text(mapping(one.get("model_info")).get("id")) for one in listed]


def _models(caller: Caller, book: PriceBook | None) -> Sequence[Model]:
    return models_of(the_router(), caller.subject.model_group, caller.subject.team, book)


spendmeter = SpendmeterCallback()
