"""From a call that LiteLLM has logged to its usage event: what was used, by whom, at what cost. Pure.

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
from spendmeter_gateway.litellm.fields import mapping
from spendmeter_gateway.litellm.payload.costs import cost_of
from spendmeter_gateway.litellm.payload.estimated_usage import CONTENT, answer_texts, estimated_usage
from spendmeter_gateway.litellm.payload.free_calls import is_free_call
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall
from spendmeter_gateway.litellm.payload.pass_through import estimate_of, usage_in
from spendmeter_gateway.litellm.payload.prices import PriceMap, prices_of
from spendmeter_gateway.model import UsageCounts, UsageDraft

Listed = Callable[[str, str], Mapping[str, Any]]
"""Provider and model: what LiteLLM's price list has, under its own names; empty where it has nothing."""
_COUNTS = (
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
    "total_tokens",
)  # fmt: skip
"""Those that stand in an event."""
# Calls that every provider bills by their tokens: an answer without a count of them lacks it.
_BILLED_BY_TOKENS = re.compile(
    r"a?(completion|text_completion|embedding|responses|anthropic_messages|generate_content(_stream)?"
    r"|image_generation|image_edit|transcription)"
)
_READ_TEXT = re.compile(
    r"a?(completion|text_completion|responses|anthropic_messages|generate_content(_stream)?)"
)
"""Those of them that nothing comes out of unless something went in."""


def usage_of(
    call: LoggedCall,
    *,
    event_id: UUID,
    occurred_at: datetime,
    listed: Listed | None = None,
    is_bill: bool = False,
) -> UsageDraft | None:
    """What this finished request used; None where there is nothing to bill.

    `event_id` is the request's. One request can log several events (a failure and the retry that
    succeeded, the parts of a batch completion, the classifier that an auto-router called), so each
    gets an id of its own, derived from the request's and the same whenever the same event is logged.

    `is_bill`: the call is on an object that is billed by who reads it (provider_objects.py).
    """
    counts, is_estimate = _counts(call)
    prices = call.prices
    if not prices.prices and listed is not None and counts.total_tokens:
        prices = PriceMap(listed(call.provider, call.model))
    cost = cost_of(call, counts, prices, is_estimate=is_estimate)
    if not is_bill and _is_poll(call):
        return None
    if cost.amount == 0 and _cost_nothing(call, counts.total_tokens, is_bill=is_bill):
        return None
    fields = {
        "event_id": derived_uuid7(unix_ms_of(event_id), event_id.hex, *call.distinction),
        "occurred_at": occurred_at,
        "cost_nanousd": cost.amount,
        "cost_source": cost.source,
        "cost_doubt": cost.doubt or Doubt.NONE,
        "prices": {} if cost.source is CostSource.UNPRICED else prices_of(prices),
        **call.caller.event_fields,
        "model": call.model,
        "model_group": call.model_group,
        "provider": call.provider,
        "deployment": call.deployment,
        "call_type": call.call_type,
        "status": Status.FAILURE if call.is_failure else Status.SUCCESS,
        "streamed": call.is_streamed,
        "estimated": is_estimate or (call.is_streamed and call.is_cut and not call.is_failure),
        "cache_hit": call.is_cached,
        "call_id": call.call_id,
        "response_id": call.response_id,
        **_when(call, occurred_at),
        **{name: getattr(counts, name) for name in _COUNTS},
    }
    return UsageDraft(fields, cost.message, call.images)


def _when(call: LoggedCall, occurred_at: datetime) -> dict[str, Any]:
    started, ended = call.started_seconds, call.ended_seconds
    if started is None:
        return {"started_at": occurred_at, "duration_ms": 0}
    started_at = min(from_unix_us(round(started * 1e6)), occurred_at)
    return {"started_at": started_at, "duration_ms": max(0, round(((ended or started) - started) * 1000))}


def _counts(call: LoggedCall) -> tuple[UsageCounts, bool]:
    """What the call used, and whether that is an estimate of ours."""
    counts, passed = call.counts, call.passed
    if not call.is_success or counts.input_tokens:
        return counts, False
    if passed is not None:
        if not passed.is_billed_by_tokens:
            return counts, False
        found = usage_in(passed)
        return (estimate_of(passed, counts.output_tokens), True) if found is None else (found, False)
    if not _lacks_usage(call):
        return counts, False
    found = estimated_usage(call.sent, answer_texts(call.answer), call_type=call.call_type)
    output = max(counts.output_tokens, found.output_tokens)
    return found._replace(output_tokens=output, total_tokens=found.input_tokens + output), True


def _lacks_usage(call: LoggedCall) -> bool:
    """Whether a model served this call and nobody says what it used.

    Of a stream that LiteLLM passes on it counts the output itself, and leaves the input at zero; of an answer
    with counts that cannot be it makes a cost of the texts.
    """
    if call.is_cached:
        return False
    cost = call.total_usd
    if call.counts.total_tokens or (isinstance(cost, int | float) and cost > 0):
        return _READ_TEXT.fullmatch(call.call_type) is not None
    # A transcription brings a file, of which nothing is logged.
    is_sent = any(call.sent.get(name) for name in CONTENT) or call.call_type.endswith("transcription")
    return is_sent and _BILLED_BY_TOKENS.fullmatch(call.call_type) is not None


def _cost_nothing(call: LoggedCall, total_tokens: int, *, is_bill: bool) -> bool:
    """Whether a cost of zero means that nothing was used, rather than that no price is known."""
    if call.is_refused:
        return True
    if is_bill:
        return False
    # A moderation without a price is free, whatever tokens it has.
    if total_tokens and call.call_type not in ("moderation", "amoderation"):
        return False
    return call.passed.is_free if call.passed is not None else is_free_call(call.call_type)


def _is_poll(call: LoggedCall) -> bool:
    """Whether a stored response was read that its creation has billed; a background one's has not."""
    is_read = call.call_type in ("get_responses", "aget_responses")
    return is_read and mapping(call.answer).get("background") is not True
