"""LiteLLM's log-event payload to the usage event: what was used, by whom, at what cost. Pure.

Shapes measured on LiteLLM 1.106.2; an example of each lies in tests/unit/producers/payloads/.
Nothing that a user or a model wrote passes through here.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from producers.costs import cost_of, images_of, prices_of
from producers.payload import (
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
from spendmeter.contract.times import from_unix_us
from spendmeter.contract.usage import CostSource, Status, UsageEvent
from spendmeter.contract.wire import made

EVENT_ID_FIELD = "spendmeter_event_id"
"""Where the pre-call hook leaves the id it mints, in each metadata dict that the request has."""

# Calls that read or manage what an earlier call made and billed (LiteLLM #17814, #25015).
_MANAGEMENT_CALL = re.compile(
    r"a?_?(get|list|retrieve|delete|cancel|create|update|modify|upload|add)_(?!(video|interaction)\b)\w+"
    r"|a?(file|vector_store|vector_store_file|video)_(create|list|retrieve|update|delete|content|get)\w*"
)


# Every field, in the model's order.
_NO_FIELDS = {
    name: field.get_default(call_default_factory=True) for name, field in UsageEvent.model_fields.items()
}


class Origin(Struct, frozen=True):
    """Which outbox of which gateway an event comes from."""

    producer_id: str
    gateway: str


class UsageDraft(NamedTuple):
    """A usage event that still lacks its place in an outbox."""

    fields: Mapping[str, Any]
    """As the event's model would take them, and those that it requires: nobody asks it again."""
    doubt: str | None = None
    """What LiteLLM reported, where it cannot be a cost: the caller logs it."""
    images: int = 0
    """How many it made; no event tells, but the price book may have a price for each."""

    def finish(self, origin: Origin, seq: int, event_id: UUID | None = None) -> UsageEvent:
        """The event at that place, with that id if one is given."""
        fields = {**_NO_FIELDS, **self.fields}
        fields["producer_id"], fields["gateway"], fields["seq"] = origin.producer_id, origin.gateway, seq
        if event_id is not None:
            fields["event_id"] = event_id
        return made(UsageEvent, fields)


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


def usage_of(kwargs: Mapping[str, Any], *, event_id: UUID, occurred_at: datetime) -> UsageDraft | None:
    """What this finished request used; None where there is nothing to bill.

    `event_id` is the request's. One request can log several events (a failure and the retry that
    succeeded, the parts of a batch completion, the classifier that an auto-router asked), so each
    gets an id of its own, derived from the request's and the same whenever the same event is logged.
    """
    payload = mapping(kwargs.get("standard_logging_object"))
    prices = prices_of(kwargs)
    cost = cost_of(kwargs, prices)
    counts = _counts(payload)
    if _is_poll(payload) or (cost.amount == 0 and _cost_nothing(kwargs, payload, counts["total_tokens"])):
        return None
    fields = {
        "event_id": _event_id(event_id, payload),
        "occurred_at": occurred_at,
        "cost_nanousd": cost.amount,
        "cost_source": cost.source,
        "prices": {} if cost.source is CostSource.UNPRICED else prices,
        **_who(kwargs, payload),
        **_what(kwargs, payload),
        **_when(payload, occurred_at),
        **counts,
    }
    return UsageDraft(fields, cost.doubt, images_of(payload))


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
    """The tags of a log event: those of key, team and project first, as admission has them (subject.py)."""
    metadata, other = request_metadata(kwargs)
    own = [
        mapping(of.get(name)).get("tags")
        for of in (metadata, other)
        if "user_api_key_hash" in of
        for name in ("user_api_key_metadata", "user_api_key_team_metadata", "user_api_key_project_metadata")
    ]
    return tags(*own, other.get("tags"), metadata.get("tags"), payload.get("request_tags"))


def _what(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    is_failure = payload.get("status") == "failure"
    is_streamed = bool(payload.get("stream") or kwargs.get("stream"))
    return {
        "model": text(payload.get("model") or kwargs.get("model")),
        "model_group": text(payload.get("model_group")),
        "provider": text(payload.get("custom_llm_provider") or kwargs.get("custom_llm_provider")),
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


def _counts(payload: Mapping[str, Any]) -> dict[str, int]:
    """Token counts, inclusive: cached input is part of the input, reasoning of the output."""
    usage = mapping(mapping(payload.get("metadata")).get("usage_object"))
    details = mapping(usage.get("prompt_tokens_details"))
    cache_read = tokens(usage.get("cache_read_input_tokens")) or tokens(details.get("cached_tokens"))
    cache_write = tokens(usage.get("cache_creation_input_tokens")) or tokens(
        details.get("cache_creation_tokens") or details.get("cache_write_tokens")
    )
    given = tokens(payload.get("prompt_tokens")) or tokens(usage.get("input_tokens"))
    output = tokens(payload.get("completion_tokens")) or tokens(usage.get("output_tokens"))
    # LiteLLM includes the cached tokens; a raw Anthropic usage, which some routes hand on, does not.
    is_raw = "prompt_tokens" not in usage and "input_tokens" in usage
    is_exclusive = is_raw or given < cache_read + cache_write
    inclusive = given + cache_read + cache_write if is_exclusive else given
    reasoning = tokens(mapping(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    return {
        "input_tokens": inclusive,
        "output_tokens": output,
        "cache_read_tokens": cache_read,
        "cache_write_tokens": cache_write,
        "reasoning_tokens": min(reasoning, output),
        "total_tokens": max(tokens(payload.get("total_tokens")), inclusive + output),
    }


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


def _cost_nothing(kwargs: Mapping[str, Any], payload: Mapping[str, Any], total_tokens: int) -> bool:
    """Whether a cost of zero means that nothing was used, rather than that no price is known."""
    if _is_refusal(kwargs, payload):
        return True
    return total_tokens == 0 and is_management_call(str(payload.get("call_type")))


def is_management_call(call_type: str) -> bool:
    """Whether a call only reads or manages what another made and billed."""
    return _MANAGEMENT_CALL.fullmatch(call_type) is not None


def _is_poll(payload: Mapping[str, Any]) -> bool:
    """Whether a stored response was read that its creation has billed; a background one's has not."""
    is_read = payload.get("call_type") in ("get_responses", "aget_responses")
    return is_read and mapping(payload.get("response")).get("background") is not True


def _event_id(request_id: UUID, payload: Mapping[str, Any]) -> UUID:
    """A UUIDv7 of the request's millisecond whose other bits are a hash of what tells events apart."""
    told_apart = [payload.get("status"), payload.get("id"), payload.get("litellm_call_id")]
    if payload.get("status") == "failure":
        # A failure's id is the call's, so the attempts of one call differ by deployment and time only.
        told_apart += [payload.get("model_id"), payload.get("startTime")]
    seed = "\0".join([request_id.hex, *map(str, told_apart)])
    digest = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest()[:10], "big")
    value = (request_id.int >> 80 << 80) | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
