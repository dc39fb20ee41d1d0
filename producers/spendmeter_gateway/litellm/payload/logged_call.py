"""One log event of LiteLLM's, read once: nothing else walks its kwargs or its standard logging payload. Pure.

Shapes measured on LiteLLM 1.106.2; an example of each lies in tests/unit/producers/litellm/payload/payloads/.
LiteLLM may fail to build its payload; then there are its kwargs alone.
"""

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from spendmeter.domain.matching import Subject
from spendmeter_gateway.litellm.fields import (
    EVENT_ID_FIELD,
    first_text,
    key_hash,
    mapping,
    number,
    request_metadata,
    seconds,
    session_of,
    tags,
    text,
    text_or_none,
    tokens,
)
from spendmeter_gateway.litellm.payload.estimated_usage import SENT
from spendmeter_gateway.litellm.payload.pass_through import PassThrough, pass_through_of
from spendmeter_gateway.litellm.payload.prices import PriceMap, price_map
from spendmeter_gateway.litellm.payload.usage_counts import counts_of
from spendmeter_gateway.model import Caller, UsageCounts

_ADDRESSED = ("response_id", "batch_id", "fine_tuning_job_id", "video_id")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class CostParts(NamedTuple):
    """What LiteLLM says of how its figure came about."""

    usd: float = 0.0
    """What its parts come to after discount and margin."""
    factor: Fraction | int = 1
    """What the operator's discount leaves, and a margin below zero."""
    service_tier: str | None = None


class LoggedCall(Struct, frozen=True, kw_only=True):
    """What LiteLLM logs of one call; the defaults are those of a log event that lacks the field."""

    status: str = ""
    """`success`, `failure`, or neither where LiteLLM could not build its payload."""
    request_id: UUID | None = None
    """The id that the pre-call hook minted for the request."""
    distinction: tuple[str, ...] = ()
    """What distinguishes the events of one request."""
    caller: Caller = Caller(Subject(key=""), "")
    """Who pays, as the log says: a client can reach that."""
    call_id: str = ""
    response_id: str = ""
    call_type: str = ""
    model: str = ""
    model_group: str = ""
    deployment_name: str = ""
    """The model of the deployment that a read of an object was routed by."""
    provider: str = ""
    deployment: str | None = None
    is_streamed: bool = False
    is_cut: bool = False
    """Whether the client left: LiteLLM logs a success whose tokens it has counted itself."""
    is_refused: bool = False
    """Whether a budget refused it, ours or LiteLLM's own: nothing was called."""
    is_cached: bool = False
    started_seconds: float | None = None
    ended_seconds: float | None = None
    counts: UsageCounts = UsageCounts()
    model_usd: object = None
    """LiteLLM's figure of the model's cost; None where it found no price. What is no number is doubted."""
    total_usd: object = None
    """The same with the cost of guardrails, and 0 where LiteLLM found no price."""
    parts: CostParts = CostParts()
    prices: PriceMap = PriceMap(_NOTHING)
    images: int = 0
    """How many it made."""
    sent: Mapping[str, Any] = _NOTHING
    """What was sent to the model, under the names in SENT."""
    answer: object = None
    """In the provider's shape; an operator may have it left out of what is logged."""
    exception: object = None
    passed: PassThrough | None = None
    is_background: bool = False
    """Whether it was sent to be worked on in the background."""
    addressed: str = ""
    """The provider's object that it was about."""
    batch_models: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether LiteLLM logs an answer."""
        return self.status == "success"

    @property
    def is_failure(self) -> bool:
        """Whether LiteLLM logs that the call failed."""
        return self.status == "failure"


def read_log_event(kwargs: Mapping[str, Any]) -> LoggedCall:
    """The call of a log event."""
    payload, params = mapping(kwargs.get("standard_logging_object")), mapping(kwargs.get("litellm_params"))
    metadata, other = request_metadata(params)
    logged = mapping(payload.get("metadata"))
    # Where LiteLLM could not build its payload, the request's own metadata has the same names.
    who = logged or next((one for one in (metadata, other) if "user_api_key_hash" in one), _NOTHING)
    usage = mapping(logged.get("usage_object"))
    status, call_type = payload.get("status"), text(payload.get("call_type") or kwargs.get("call_type"))
    call_id = payload.get("litellm_call_id")
    answer, model_usd = payload.get("response"), kwargs.get("response_cost")
    error = mapping(payload.get("error_information"))
    parameters = mapping(kwargs.get("optional_params"))
    distinction: tuple[str, ...] = (str(status), str(payload.get("id")), str(call_id))
    if status == "failure":
        # A failure's id is the call's, so the attempts of one call differ by deployment and time only.
        distinction += (str(payload.get("model_id")), str(payload.get("startTime")))
    passed = None
    if passed_on := mapping(kwargs.get("passthrough_logging_payload")):
        routes = (one.get("user_api_key_request_route") for one in (logged, metadata, other))
        passed = pass_through_of(call_type, passed_on, routes, answer)
    provider = text(payload.get("custom_llm_provider") or kwargs.get("custom_llm_provider"))
    model_map = mapping(payload.get("model_map_information"))
    return LoggedCall(
        status=status if status in ("success", "failure") else "",
        request_id=request_id_of(params),
        distinction=distinction,
        caller=Caller(
            Subject(
                key=key_hash(who.get("user_api_key_hash")),
                user=text_or_none(who.get("user_api_key_user_id")),
                team=text_or_none(who.get("user_api_key_team_id")),
                organization=text_or_none(who.get("user_api_key_org_id")),
                project=text_or_none(who.get("user_api_key_project_id")),
                end_user=first_text((payload.get("end_user"), who.get("user_api_key_end_user_id"))),
                tags=_tags(metadata, other, payload.get("request_tags")),
                session=text_or_none(payload.get("session_id")) or session_of(params),
            ),
            "",
            text_or_none(who.get("user_api_key_alias")),
        ),
        call_id=text(call_id or kwargs.get("litellm_call_id")),
        response_id=text(payload.get("id")),
        call_type=call_type,
        model=text(payload.get("model") or kwargs.get("model")),
        model_group=text(payload.get("model_group")),
        deployment_name=first_text(
            (other.get("deployment_model_name"), metadata.get("deployment_model_name"))
        )
        or "",
        provider=provider or ("" if passed is None else passed.provider),
        deployment=text_or_none(payload.get("model_id")),
        is_streamed=bool(payload.get("stream") or kwargs.get("stream")),
        # LiteLLM writes a finish_reason of `stop` into a stream that was cut, too: it means nothing.
        is_cut=error.get("error_class") == "ClientDisconnected"
        or metadata.get("client_disconnected") is True
        or other.get("client_disconnected") is True,
        is_refused=status == "failure" and _is_refusal(kwargs.get("exception"), error),
        is_cached=payload.get("cache_hit") is True or kwargs.get("cache_hit") is True,
        started_seconds=seconds(payload.get("startTime")),
        ended_seconds=seconds(payload.get("endTime")),
        counts=counts_of(
            usage,
            input_tokens=tokens(payload.get("prompt_tokens")),
            output_tokens=tokens(payload.get("completion_tokens")),
            total_tokens=tokens(payload.get("total_tokens")),
        ),
        model_usd=model_usd,
        total_usd=payload.get("response_cost", model_usd),
        parts=_parts(mapping(payload.get("cost_breakdown")), usage),
        prices=price_map(
            mapping(model_map.get("model_map_value")),
            mapping(metadata.get("model_info")),
            mapping(other.get("model_info")),
            params,
        ),
        images=0
        if status == "failure"
        else images_of(call_type, answer, mapping(payload.get("model_parameters")).get("n")),
        sent={name: kwargs[name] for name in SENT if name in kwargs},
        answer=answer,
        exception=kwargs.get("exception"),
        passed=passed,
        is_background=parameters.get("background") is True,
        addressed=first_text(map(parameters.get, _ADDRESSED)) or "" if parameters else "",
        batch_models=batch_models_in(mapping(payload.get("hidden_params"))),
    )


def request_id_of(request: Mapping[str, Any]) -> UUID | None:
    """The id that was minted for a request, from its body or the arguments of a call of it.

    The pre-call hook writes the same id into every metadata dict; two that differ are not both ours.
    """
    one, other = (metadata.get(EVENT_ID_FIELD) for metadata in request_metadata(request))
    minted = one if one is not None else other
    if minted is None or (other is not None and str(other) != str(minted)):
        return None
    try:
        event_id = UUID(str(minted))
    except ValueError:
        return None
    return event_id if event_id.version == 7 else None


def images_of(call_type: str, answer: object, ordered: object) -> int:
    """How many images a call made: those of its answer, or as many as were ordered."""
    if "image" not in call_type:
        return 0
    made = mapping(answer).get("data")
    return len(made) if isinstance(made, list) else tokens(ordered) or 1


def batch_models_in(hidden: Mapping[str, Any]) -> tuple[str, ...]:
    """The models of a batch, as its output names them."""
    found = hidden.get("batch_models")
    return tuple(sorted({text(one) for one in found if one})) if isinstance(found, list) else ()


def _tags(metadata: Mapping[str, Any], other: Mapping[str, Any], request_tags: object) -> tuple[str, ...]:
    # Those of key, team and project first, as admission has them (caller.py).
    own = [
        mapping(of.get(name)).get("tags")
        for of in (metadata, other)
        if "user_api_key_hash" in of
        for name in ("user_api_key_metadata", "user_api_key_team_metadata", "user_api_key_project_metadata")
    ]
    return tags(*own, other.get("tags"), metadata.get("tags"), request_tags)


def _parts(breakdown: Mapping[str, Any], usage: Mapping[str, Any]) -> CostParts:
    tier = breakdown.get("service_tier")
    if tier is None:
        tier = usage.get("service_tier")
    tier = tier if isinstance(tier, str) else None
    if not breakdown:
        return CostParts(service_tier=tier)
    # The other items of the breakdown are parts of these.
    named = (breakdown.get("input_cost"), breakdown.get("output_cost"), breakdown.get("tool_usage_cost"))
    added = sum(number(usd) or 0.0 for usd in (*named, *mapping(breakdown.get("additional_costs")).values()))
    margin, discount = number(breakdown.get("margin_total_amount")), number(breakdown.get("discount_amount"))
    below = min(0.0, margin or 0.0) - (discount or 0.0)
    return CostParts(added + below, _factor(breakdown), tier)


def _factor(breakdown: Mapping[str, Any]) -> Fraction | int:
    discount, margin = number(breakdown.get("discount_percent")), number(breakdown.get("margin_percent"))
    if not discount and not margin:
        return 1
    left = Fraction(1)
    if discount and 0 < discount <= 1:
        left *= 1 - Fraction(repr(discount))
    if margin and -1 <= margin < 0:
        left *= 1 + Fraction(repr(margin))
    return left if left != 1 else 1


def _is_refusal(exception: object, error: Mapping[str, Any]) -> bool:
    return (
        getattr(exception, "type", None) in ("budget_exceeded", "budget_unverified", "budget_unpriced")
        or error.get("error_class") == "BudgetExceededError"
        or str(error.get("normalized_error") or "").endswith("BUDGET_EXCEEDED")
    )
