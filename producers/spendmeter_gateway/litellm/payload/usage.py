"""LiteLLM's log-event payload to the usage event: what was used, by whom, at what cost. Pure.

Shapes measured on LiteLLM 1.106.2; an example of each lies in tests/unit/producers/litellm/payloads/.
Nothing that a user or a model wrote passes through here.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from spendmeter.contract.usage import CostSource, Doubt, Status
from spendmeter.values.ids import derived_uuid7, unix_ms_of
from spendmeter.values.times import from_unix_us
from spendmeter_gateway.litellm.payload.costs import PriceMap, cost_of, images_of, price_map_of, prices_of
from spendmeter_gateway.litellm.payload.estimated_usage import answer_texts, estimated_usage
from spendmeter_gateway.litellm.payload.fields import (
    EVENT_ID_FIELD,
    first_text,
    key_hash,
    mapping,
    request_metadata,
    seconds,
    session_of,
    tags,
    text,
    text_or_none,
    tokens,
)
from spendmeter_gateway.litellm.payload.free_calls import is_free_call
from spendmeter_gateway.litellm.payload.pass_through import (
    PassThrough,
    estimate_of,
    pass_through_of,
    usage_in,
)
from spendmeter_gateway.litellm.payload.usage_counts import counts_of
from spendmeter_gateway.model import UsageCounts, UsageDraft


def event_id_of(kwargs: Mapping[str, Any]) -> UUID | None:
    """The id that the pre-call hook minted for this request, or None.

    The hook writes the same id into every metadata dict; two that differ are not both ours.
    """
    metadata, other_metadata = request_metadata(kwargs)
    one, other = metadata.get(EVENT_ID_FIELD), other_metadata.get(EVENT_ID_FIELD)
    minted = one if one is not None else other
    if minted is None or (other is not None and str(other) != str(minted)):
        return None
    try:
        event_id = UUID(str(minted))
    except ValueError:
        return None
    return event_id if event_id.version == 7 else None


Listed = Callable[[str, str], Mapping[str, Any]]
"""Provider and model: what LiteLLM's price list has, under its own names; empty where it has nothing."""


def usage_of(
    kwargs: Mapping[str, Any],
    *,
    event_id: UUID,
    occurred_at: datetime,
    listed: Listed | None = None,
    is_bill: bool = False,
) -> UsageDraft | None:
    """What this finished request used; None where there is nothing to bill.

    `event_id` is the request's. One request can log several events (a failure and the retry that
    succeeded, the parts of a batch completion, the classifier that an auto-router asked), so each
    gets an id of its own, derived from the request's and the same whenever the same event is logged.

    `is_bill`: the call is on an object that is billed by who reads it (provider_objects.py).
    """
    payload = mapping(kwargs.get("standard_logging_object"))
    passed = pass_through_of(kwargs)
    counts, is_estimate = _counts(kwargs, payload, passed)
    what = _what(kwargs, payload, passed)
    prices = price_map_of(kwargs)
    if not prices.prices and listed is not None and counts.total_tokens:
        prices = PriceMap(listed(what["provider"], what["model"]))
    cost = cost_of(kwargs, counts, prices, what["provider"], is_estimate=is_estimate)
    if not is_bill and _is_poll(payload):
        return None
    if cost.amount == 0 and _cost_nothing(kwargs, payload, passed, counts.total_tokens, is_bill=is_bill):
        return None
    fields = {
        "event_id": _event_id(event_id, payload),
        "occurred_at": occurred_at,
        "cost_nanousd": cost.amount,
        "cost_source": cost.source,
        "cost_doubt": cost.doubt or Doubt.NONE,
        "prices": {} if cost.source is CostSource.UNPRICED else prices_of(prices),
        **_who(kwargs, payload),
        **what,
        **_when(payload, occurred_at),
        **{name: getattr(counts, name) for name in _COUNTS},
    }
    if is_estimate:
        fields["estimated"] = True
    return UsageDraft(fields, cost.message, images_of(payload))


def _who(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    metadata = mapping(payload.get("metadata"))
    if not metadata:
        # LiteLLM could not build its payload; the request's own metadata has the same names.
        metadata = next((m for m in request_metadata(kwargs) if "user_api_key_hash" in m), {})
    return {
        "key": key_hash(metadata.get("user_api_key_hash")),
        "key_alias": text_or_none(metadata.get("user_api_key_alias")),
        "user": text_or_none(metadata.get("user_api_key_user_id")),
        "team": text_or_none(metadata.get("user_api_key_team_id")),
        "organization": text_or_none(metadata.get("user_api_key_org_id")),
        "project": text_or_none(metadata.get("user_api_key_project_id")),
        "end_user": first_text((payload.get("end_user"), metadata.get("user_api_key_end_user_id"))),
        "tags": tags_of(kwargs, payload),
        "session": text_or_none(payload.get("session_id"))
        or session_of(mapping(kwargs.get("litellm_params"))),
    }


def tags_of(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of a log event: those of key, team and project first, as admission has them (caller.py)."""
    metadata, other = request_metadata(kwargs)
    own = [
        mapping(of.get(name)).get("tags")
        for of in (metadata, other)
        if "user_api_key_hash" in of
        for name in ("user_api_key_metadata", "user_api_key_team_metadata", "user_api_key_project_metadata")
    ]
    return tags(*own, other.get("tags"), metadata.get("tags"), payload.get("request_tags"))


def _what(
    kwargs: Mapping[str, Any], payload: Mapping[str, Any], passed: PassThrough | None
) -> dict[str, Any]:
    is_failure = payload.get("status") == "failure"
    is_streamed = bool(payload.get("stream") or kwargs.get("stream"))
    return {
        "model": text(payload.get("model") or kwargs.get("model")),
        "model_group": text(payload.get("model_group")),
        "provider": text(payload.get("custom_llm_provider") or kwargs.get("custom_llm_provider"))
        or ("" if passed is None else passed.provider),
        "deployment": text_or_none(payload.get("model_id")),
        "call_type": text(payload.get("call_type") or kwargs.get("call_type")),
        "status": Status.FAILURE if is_failure else Status.SUCCESS,
        "streamed": is_streamed,
        "estimated": not is_failure and is_streamed and _was_cut(kwargs, payload),
        "cache_hit": payload.get("cache_hit") is True,
        "call_id": text(payload.get("litellm_call_id") or kwargs.get("litellm_call_id")),
        "response_id": text(payload.get("id")),
    }


def _when(payload: Mapping[str, Any], occurred_at: datetime) -> dict[str, Any]:
    started, ended = seconds(payload.get("startTime")), seconds(payload.get("endTime"))
    if started is None:
        return {"started_at": occurred_at, "duration_ms": 0}
    started_at = min(from_unix_us(round(started * 1e6)), occurred_at)
    return {"started_at": started_at, "duration_ms": max(0, round(((ended or started) - started) * 1000))}


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
)
"""Those that an event tells."""


def _counts(
    kwargs: Mapping[str, Any], payload: Mapping[str, Any], passed: PassThrough | None
) -> tuple[UsageCounts, bool]:
    """What the call used, and whether that is an estimate of ours."""
    counts = counts_of(
        mapping(mapping(payload.get("metadata")).get("usage_object")),
        input_tokens=tokens(payload.get("prompt_tokens")),
        output_tokens=tokens(payload.get("completion_tokens")),
        total_tokens=tokens(payload.get("total_tokens")),
    )
    if payload.get("status") != "success" or counts.input_tokens:
        return counts, False
    if passed is not None:
        if not passed.is_billed_by_tokens:
            return counts, False
        found = usage_in(passed)
        return (estimate_of(passed, counts.output_tokens), True) if found is None else (found, False)
    if _lacks_usage(kwargs, payload, counts):
        call_type = str(payload.get("call_type") or kwargs.get("call_type"))
        answer = answer_texts(payload.get("response"))
        found = estimated_usage(kwargs, answer, call_type=call_type)
        output = max(counts.output_tokens, found.output_tokens)
        return found._replace(output_tokens=output, total_tokens=found.input_tokens + output), True
    return counts, False


# Calls that every provider bills by their tokens: an answer without a count of them lacks it.
_BILLED_BY_TOKENS = re.compile(
    r"a?(completion|text_completion|embedding|responses|anthropic_messages|generate_content(_stream)?"
    r"|image_generation|image_edit|transcription)"
)


_READ_TEXT = re.compile(
    r"a?(completion|text_completion|responses|anthropic_messages|generate_content(_stream)?)"
)
"""Those of them that nothing comes out of unless something went in."""


def _lacks_usage(kwargs: Mapping[str, Any], payload: Mapping[str, Any], counts: UsageCounts) -> bool:
    """Whether a model served this call and nobody says what it used.

    Of a stream that LiteLLM passes on it counts the output itself, and leaves the input at zero; of an answer
    with counts that cannot be it makes a cost of the texts.
    """
    if payload.get("cache_hit") is True or kwargs.get("cache_hit") is True:
        return False
    call_type = str(payload.get("call_type") or kwargs.get("call_type"))
    cost = payload.get("response_cost")
    if counts.total_tokens or (isinstance(cost, int | float) and cost > 0):
        return _READ_TEXT.fullmatch(call_type) is not None
    # A transcription brings a file, of which nothing is logged.
    is_sent = _is_a_body(kwargs) or call_type.endswith("transcription")
    return is_sent and _BILLED_BY_TOKENS.fullmatch(call_type) is not None


def _is_a_body(kwargs: Mapping[str, Any]) -> bool:
    return any(kwargs.get(name) for name in ("messages", "input", "prompt", "contents"))


def _was_cut(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether the client left a stream: its event is a success whose tokens LiteLLM counted itself.

    LiteLLM writes a finish_reason of `stop` into a stream that was cut, too: it tells nothing.
    """
    error = mapping(payload.get("error_information"))
    return error.get("error_class") == "ClientDisconnected" or any(
        metadata.get("client_disconnected") is True for metadata in request_metadata(kwargs)
    )


def _is_refusal(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether this failure is a budget refusal, ours or LiteLLM's own: nothing was called."""
    if payload.get("status") != "failure":
        return False
    error = mapping(payload.get("error_information"))
    return (
        getattr(kwargs.get("exception"), "type", None)
        in ("budget_exceeded", "budget_unverified", "budget_unpriced")
        or error.get("error_class") == "BudgetExceededError"
        or str(error.get("normalized_error") or "").endswith("BUDGET_EXCEEDED")
    )


def _cost_nothing(
    kwargs: Mapping[str, Any],
    payload: Mapping[str, Any],
    passed: PassThrough | None,
    total_tokens: int,
    *,
    is_bill: bool,
) -> bool:
    """Whether a cost of zero means that nothing was used, rather than that no price is known."""
    if _is_refusal(kwargs, payload):
        return True
    if is_bill:
        return False
    # A moderation without a price is free, whatever tokens it tells of.
    if total_tokens and str(payload.get("call_type")) not in ("moderation", "amoderation"):
        return False
    return passed.is_free if passed is not None else is_free_call(str(payload.get("call_type")))


def _is_poll(payload: Mapping[str, Any]) -> bool:
    """Whether a stored response was read that its creation has billed; a background one's has not."""
    is_read = payload.get("call_type") in ("get_responses", "aget_responses")
    return is_read and mapping(payload.get("response")).get("background") is not True


def _event_id(request_id: UUID, payload: Mapping[str, Any]) -> UUID:
    """Derived from the request's and from what tells its events apart."""
    told_apart = [payload.get("status"), payload.get("id"), payload.get("litellm_call_id")]
    if payload.get("status") == "failure":
        # A failure's id is the call's, so the attempts of one call differ by deployment and time only.
        told_apart += [payload.get("model_id"), payload.get("startTime")]
    return derived_uuid7(unix_ms_of(request_id), request_id.hex, *map(str, told_apart))
