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
from datetime import UTC, datetime
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import StandardLoggingPayloadSetup
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

from producers.admission import Why
from producers.gateway import ERRORS, Gateway, the_gateway
from producers.mapping import event_id_of, usage_of
from producers.minting import METADATA, put_event_id
from producers.payload import mapping, text
from producers.refusal import Refusal
from producers.settings import GatewaySettings
from producers.subject import Caller, caller_of
from spendmeter.contract.ids import uuid7
from spendmeter.contract.money import NanoUsd
from spendmeter.runtime.settings import load

log = logging.getLogger(__name__)

# LiteLLM's own status where spend cannot be verified (`fail_closed_budget_enforcement`).
_UNVERIFIED_STATUS = 503
# The caller may not use this model; to wait or to try again helps nothing.
_UNPRICED_STATUS = 403


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
            put_event_id(data, uuid7(_unix_ms()))
            caller = self._caller(user_api_key_dict, data)
            refusal = await self._gateway().admit(caller, lambda: _deployments(caller))
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed; the request is let through")
        if refusal is not None:
            raise _exception(refusal)
        return data

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a request used."""
        self._record(kwargs, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what a failed request used, if anything."""
        self._record(kwargs, end_time)

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

    def _caller(self, auth: UserAPIKeyAuth, data: dict[str, Any]) -> Caller:
        metadata = {name: mapping(data.get(name)) for name in METADATA}
        request = mapping(data.get("proxy_server_request"))
        return caller_of(
            auth,
            data,
            request_tags=StandardLoggingPayloadSetup.get_request_tags(metadata, request),
            gateway=self._settings.gateway,
        )

    def _record(self, kwargs: dict[str, Any], end_time: object) -> None:
        try:
            now = datetime.now(UTC)
            # Batches and background polls have no pre-call hook, hence no id.
            event_id = event_id_of(kwargs) or uuid7(_unix_ms())
            draft = usage_of(kwargs, event_id=event_id, occurred_at=_finished_at(end_time, now))
            if draft is not None:
                self._gateway().record(draft)
        except Exception:
            ERRORS.labels("recording").inc()
            log.exception("an event could not be recorded")


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
    return min(end_time.astimezone(UTC), now) if isinstance(end_time, datetime) else now


def _exception(refusal: Refusal) -> ProxyException:
    kind, status = {
        Why.LIMIT_REACHED: ("budget_exceeded", litellm.budget_exceeded_status_code),
        Why.BLIND: ("budget_unverified", _UNVERIFIED_STATUS),
        Why.UNPRICED: ("budget_unpriced", _UNPRICED_STATUS),
    }[refusal.refuse.why]
    return ProxyException(
        message=refusal.message, type=kind, param=None, code=status, headers=refusal.headers
    )


def _deployments(caller: Caller) -> list[str]:
    """The ids of every deployment that the proxy's router may send the request to."""
    from litellm.proxy.proxy_server import llm_router  # set once the proxy has read its configuration

    if llm_router is None:
        return []
    subject = caller.subject
    listed = llm_router.get_model_list(model_name=subject.model_group, team_id=subject.team) or []
    return [text(mapping(one.get("model_info")).get("id")) for one in listed]


spendmeter = SpendmeterCallback()
