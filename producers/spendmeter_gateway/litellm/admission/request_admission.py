"""Requests of the proxy and the calls that they lead to: each is admitted where it goes, or refused."""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from litellm.proxy._types import UserAPIKeyAuth
from prometheus_client import Counter

from spendmeter_gateway.admission.cost_bound import Model
from spendmeter_gateway.admission.decide import Denied, cannot_be_metered, lacks
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
from spendmeter_gateway.litellm.admission.admission_request import LitellmAdmissionRequest
from spendmeter_gateway.litellm.admission.free_requests import (
    is_free,
    is_free_at,
    is_free_route,
    served_at,
    served_by,
)
from spendmeter_gateway.litellm.admission.key_cache import KeyCache, request_of
from spendmeter_gateway.litellm.fields import fields_of, mapping, put_event_id, text
from spendmeter_gateway.litellm.models import (
    deployment_at,
    deployment_called,
    deployment_in_router,
    deployment_of,
    deployments_of,
    is_list_of_models,
    model_of,
    models_of,
    the_router,
)
from spendmeter_gateway.litellm.payload.pass_through import UsageChunkFilter, ask_for_usage
from spendmeter_gateway.litellm.request.caller import missing, payer_of, who_asks
from spendmeter_gateway.litellm.request.controls import apply_controls
from spendmeter_gateway.model import Caller
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

STRIPPED = Counter("spendmeter_stripped_requests_total", "Requests with a control stripped from their body.")


class RequestAdmission:
    """Admits or refuses; a refusal is returned for the hook to raise. Each may raise whatever it meets."""

    def __init__(
        self, settings: GatewaySettings, exchanges: Exchanges, on_unwatched: Callable[[], None]
    ) -> None:
        """`on_unwatched` is called where a request has no exchange: its server is not watched yet."""
        self._settings, self._exchanges, self._on_unwatched = settings, exchanges, on_unwatched
        self._client_values = settings.client_values
        self._keys: KeyCache | None = None

    async def admit(
        self, auth: UserAPIKeyAuth, cache: object, data: dict[str, Any], call_type: str
    ) -> Refusal | None:
        """A request is about to be served: its event's id is minted here."""
        controls = apply_controls(data, is_under_budget=True)
        if controls.stripped:
            STRIPPED.inc()
            log.info(
                "stripped from a request's body, since it could change owner, price or log: %s", controls
            )
        gateway = self._gateway()
        request = request_of(self._known_keys(gateway), auth, cache, data)
        caller = request.caller
        exchange = current_exchange()
        if exchange is None:
            # A server that the wrapper could not be put around: metadata names the exchange.
            self._on_unwatched()
            exchange = Exchange()
        request_id = exchange.begin(caller)
        if not exchange.is_watched:
            self._exchanges.put(request_id, exchange)
        put_event_id(data, str(request_id))
        exchange.is_list = is_list_of_models(data, call_type)
        lacking = missing(caller, request.fields, self._client_values)
        if lacking and not is_free_route(call_type, exchange.method, exchange.path):
            return self._refused(exchange, request_id, lacks(lacking[0]), caller)
        if controls.unmetered and gateway.views.may_refuse(caller.subject):
            return self._refused(exchange, request_id, cannot_be_metered(controls.unmetered[0]), caller)
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
            lambda: models_of(
                the_router(), caller.subject.model_group, caller.subject.team, gateway.price_book
            ),
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

    async def admit_by_key(self, auth: UserAPIKeyAuth) -> Refusal | None:
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

    async def open(self, exchange: Exchange, kwargs: dict[str, Any], call_type: str) -> Refusal | None:
        """A call to a deployment begins: it is judged there, and holds what it may cost there."""
        routes, caller = self._gateway().routes, payer_of(exchange, self._settings.gateway)
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

    def deployments_left(
        self, exchange: Exchange | None, healthy: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], Refusal | None]:
        """The deployments whose budgets have something left; if none has, why."""
        routes = self._gateway().routes
        if exchange is None or exchange.caller is None or not routes.are_judged:
            return healthy, None
        found = routes.refused(exchange.caller, [deployment_in_router(one) for one in healthy])
        left = [one for one, refuse in zip(healthy, found, strict=True) if refuse is None]
        if left or not found or found[0] is None:
            return left, None
        exchange.refusals.append(routes.refusal(found[0], exchange.caller))
        return [], exchange.refusals[-1]

    def model(self, call: Call) -> Model:
        """The prices of the deployment that a call goes to."""
        deployment = deployment_of(call.arguments)
        return model_of(the_router(), deployment, call.deployment.model_group, self._gateway().price_book)

    def _gateway(self) -> Gateway:
        return the_gateway(self._settings)

    def _refused(self, exchange: Exchange, request_id: UUID, refuse: Denied, caller: Caller) -> Refusal:
        exchange.consume_admitted(request_id)
        exchange.refusals.append(self._gateway().routes.refusal(refuse, caller))
        return exchange.refusals[-1]

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

    def _asking(self, call: Call, arguments: dict[str, Any], call_type: str) -> LitellmAdmissionRequest:
        return LitellmAdmissionRequest(
            call.id, arguments, call_type, lambda: [self.model(call)], self._settings
        )

    def _is_free(self, call: Call) -> bool:
        book = self._gateway().price_book
        return is_free_at(call.call_type, served_at(the_router(), call.deployment, book))

    def _known_keys(self, gateway: Gateway) -> KeyCache:
        if self._keys is None or self._keys.adopter is not gateway.adopter:
            # The first request, or the first in a process that was forked: it has a gateway of its own.
            self._keys = KeyCache(gateway.adopter, gateway.name, self._client_values)
        return self._keys


def _deployments(caller: Caller) -> list[str]:
    """The ids of every deployment that the proxy's router may send the request to."""
    listed = deployments_of(the_router(), caller.subject.model_group or "", caller.subject.team)
    return [text(mapping(one.get("model_info")).get("id")) for one in listed]
