"""Usage events of calls that LiteLLM logs late, mixed up with others of their request, or not at all."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import litellm
from litellm.litellm_core_utils.litellm_logging import StandardLoggingPayloadSetup
from litellm.types.utils import ModelResponse, Usage
from msgspec import structs

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource
from spendmeter_gateway.admission.cost_bound import Model, bound_of
from spendmeter_gateway.admission.route_admission import subject_at
from spendmeter_gateway.exchange import Call, Exchange
from spendmeter_gateway.litellm.compat import has_custom_pricing, usage_as_logged
from spendmeter_gateway.litellm.fields import mapping, part_of, text, text_or_none
from spendmeter_gateway.litellm.models import listed_prices
from spendmeter_gateway.litellm.payload.estimated_usage import SENT, estimated_usage, stream_texts
from spendmeter_gateway.litellm.payload.logged_call import CostParts, LoggedCall, images_of
from spendmeter_gateway.litellm.payload.pass_through import Marks, marks_of
from spendmeter_gateway.litellm.payload.prices import price_map
from spendmeter_gateway.litellm.payload.provider_objects import is_billed_apart
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.litellm.payload.usage_counts import counts_of, usage_in_gemini
from spendmeter_gateway.litellm.recording.streams import chunks_of, is_unfinished, lacks_usage, usage_said
from spendmeter_gateway.litellm.request.size import ORDERED_BY_UNITS, measure
from spendmeter_gateway.model import UsageCounts, UsageDraft

_ANSWER = ("data", "choices", "content", "output", "candidates")
# Of one call's texts and output; what is longer is counted by its length.
_MAX_COUNTED_CHARS = 1_000_000
_CHARS_PER_TOKEN = 4


class CallDrafts:
    """Makes drafts from what is known of a call itself."""

    def __init__(self, model: Callable[[Call], Model]) -> None:
        """`model`: the prices of the deployment that a call went to."""
        self._model = model

    def answered(self, call: Call) -> UsageDraft | None:
        """The event of a call that was answered, by LiteLLM's prices for its deployment.

        It is priced once, and again only where the same answer by now says otherwise what was used.
        """
        if is_billed_apart(call.call_type, call.arguments):
            return None
        response = call.response
        if response is None:
            return self.cut(call)
        if (counts := usage_in_gemini(response)) is not None:
            # LiteLLM's prices are for usage in OpenAI's shape.
            response = ModelResponse(model=call.deployment.model, usage=_usage(counts))
        usage = usage_as_logged(response)
        if call.priced is None or call.priced[0] != usage:
            call.priced = deepcopy(usage), _draft(call, response, part_of(response, "id"), usage)
        draft, now = call.priced[1], datetime.now(UTC)
        return draft and draft._replace(fields={**draft.fields, "occurred_at": now, "started_at": now})

    def logged(self, call: Call, draft: UsageDraft) -> UsageDraft:
        """The draft of LiteLLM's log event in the names of its call, marked where LiteLLM did the counting.

        Of a stream without an end LiteLLM may know no more than what the provider said at its beginning, and
        of what was sent its log event may have less than the call.
        """
        is_misnamed = draft.fields["model"] != call.deployment.model
        draft = charged_to(draft, call)
        if draft.fields.get("cache_hit"):
            return draft
        if is_misnamed and draft.fields["cost_source"] is CostSource.UNPRICED:
            # Logged under the names of a list of models, of which no price is known.
            return self.answered(call) or draft
        if draft.fields["estimated"] or is_unfinished(call.stream) or _lacks_its_end(call):
            estimate = self.cut(call)
            if estimate is not None and estimate.fields["cost_nanousd"] > draft.fields["cost_nanousd"]:
                return estimate
        elif not lacks_usage(call.stream) and not _lacks_usage(call):
            return draft
        return draft._replace(fields={**draft.fields, "estimated": True})

    def cut(self, call: Call) -> UsageDraft | None:
        """The event of a call that was given up: an estimate of what went in and what has come out."""
        if is_billed_apart(call.call_type, call.arguments):
            # The provider goes on with it, and a later read shows what it cost.
            return None
        usage = usage_said(call.stream) or call.usage
        if usage is not None:
            response = ModelResponse(model=call.deployment.model, usage=usage)
            return _draft(call, response, call.response_id, usage_as_logged(response))
        return self.estimated(call)

    def estimated(self, call: Call) -> UsageDraft | None:
        """The event of a call from what went in and what has come out, whatever was said of its usage."""
        came = _texts_that_came(call) if call.is_streamed else []
        found = estimated_usage(call.arguments, came, call_type=call.call_type, count=_count)
        response = ModelResponse(model=call.deployment.model, usage=_usage(found))
        draft = _draft(call, response, None, usage_as_logged(response))
        if draft is None:
            return None
        fields = {**draft.fields, "estimated": True}
        by_units = self._by_units(call)
        if by_units > fields["cost_nanousd"]:
            fields |= {"cost_nanousd": by_units, "cost_source": CostSource.TOKENS}
        return draft._replace(fields=fields)

    def _by_units(self, call: Call) -> NanoUsd:
        """What pictures that were ordered and documents that were ranked cost where they have a price."""
        # Of any other the body need not be read once more.
        asked = measure(call.arguments, call.call_type) if call.call_type in ORDERED_BY_UNITS else None
        if asked is None or not (asked.made_images or asked.searches):
            return NanoUsd(0)
        bound = bound_of(asked, [self._model(call)], default_output_tokens=0, min_output_tokens=0)
        return NanoUsd(0 if bound is None else bound.nanousd(0))


def as_sent(logged: LoggedCall, call: Call) -> LoggedCall:
    """The log event with what was sent as the call has it: a client can have the log's redacted."""
    return structs.replace(logged, sent={**logged.sent, **_sent(call)})


def charged_to(draft: UsageDraft, call: Call) -> UsageDraft:
    """The draft in the names that its call was admitted under: a log event's are a client's to change."""
    subject = subject_at(call.caller, call.deployment)
    deployment = call.deployment
    fields = {
        **draft.fields,
        **call.caller.event_fields,
        "tags": subject.tags,
        "model": deployment.model or draft.fields.get("model", ""),
        "model_group": subject.model_group or "",
        "provider": deployment.provider or draft.fields.get("provider", ""),
        "deployment": deployment.id or draft.fields.get("deployment"),
    }
    return draft._replace(fields=fields)


def _sent(call: Call) -> dict[str, Any]:
    return {name: call.arguments[name] for name in SENT if name in call.arguments}


def _draft(call: Call, response: object, response_id: object, usage: Mapping[str, Any]) -> UsageDraft | None:
    arguments, deployment = call.arguments, call.deployment
    cost, response_id = _cost(call, response), response_id if isinstance(response_id, str) else str(call.id)
    call_id, own_metadata = arguments.get("litellm_call_id"), mapping(arguments.get("litellm_metadata"))
    answer = {name: part_of(response, name) for name in _ANSWER}
    logged = LoggedCall(
        status="success",
        distinction=("success", response_id, str(call_id)),
        call_id=text(call_id),
        response_id=text(response_id),
        call_type=call.call_type,
        model=text(deployment.model),
        provider=text(deployment.provider),
        is_streamed=call.is_streamed,
        is_cut=own_metadata.get("client_disconnected") is True,
        counts=counts_of(usage),
        model_usd=cost,
        total_usd=cost or 0.0,
        parts=CostParts(service_tier=text_or_none(usage.get("service_tier"))),
        prices=price_map(
            mapping(_listed(call, response).get("model_map_value")),
            mapping(arguments.get("model_info")),
            mapping(own_metadata.get("model_info")),
            arguments,
        ),
        images=images_of(call.call_type, answer, arguments.get("n")),
        sent=_sent(call),
        answer=answer,
    )
    draft = usage_of(logged, event_id=call.id, occurred_at=datetime.now(UTC), listed=listed_prices)
    return None if draft is None else charged_to(draft, call)


def _cost(call: Call, response: object) -> float | None:
    """What LiteLLM's prices make of it; None where it knows none."""
    try:
        cost = litellm.completion_cost(
            completion_response=response,
            model=str(call.arguments.get("model") or call.deployment.model),
            custom_llm_provider=call.deployment.provider or None,
            call_type=call.call_type,
            custom_pricing=_has_own_prices(call),
            router_model_id=call.deployment.id,
            base_model=mapping(call.arguments.get("model_info")).get("base_model"),
        )
    except Exception:  # LiteLLM raises whatever it met for a model that it does not know
        return None
    return float(cost)


def _has_own_prices(call: Call) -> bool:
    metadata = {"model_info": call.arguments.get("model_info")}
    return has_custom_pricing(None, {**call.arguments, "metadata": metadata}, None)


def _listed(call: Call, response: object) -> Any:
    try:
        return StandardLoggingPayloadSetup.get_model_cost_information(
            base_model=call.arguments.get("model") or call.deployment.model,
            custom_pricing=_has_own_prices(call),
            custom_llm_provider=call.deployment.provider or None,
            init_response_obj=response,
            api_base=call.arguments.get("api_base"),
            router_model_id=call.deployment.id,
        )
    except Exception:  # as above
        return {}


def _usage(counts: UsageCounts) -> Usage:
    return Usage(
        prompt_tokens=counts.input_tokens,
        completion_tokens=counts.output_tokens,
        total_tokens=counts.total_tokens,
        prompt_tokens_details={
            "cached_tokens": counts.cache_read_tokens,
            "audio_tokens": counts.input_audio_tokens,
            "image_tokens": counts.input_image_tokens,
        },
        completion_tokens_details={
            "reasoning_tokens": counts.reasoning_tokens,
            "audio_tokens": counts.output_audio_tokens,
            "image_tokens": counts.output_image_tokens,
        },
    )


def _lacks_its_end(call: Call) -> bool:
    """Whether the provider's last event is missing in a stream that LiteLLM passes on as it is."""
    marks = _marks_of(call)
    return marks is not None and call.exchange.lacks(marks.end)


def _lacks_usage(call: Call) -> bool:
    """Whether nobody has said in such a stream what went in: then LiteLLM has counted it."""
    marks = _marks_of(call)
    return call.lacks_usage or (marks is not None and call.exchange.lacks(marks.usage))


def _marks_of(call: Call) -> Marks | None:
    return marks_of(call.exchange.path) if call.is_streamed and call.stream is None else None


def _texts_that_came(call: Call) -> list[str]:
    """What LiteLLM has read of a stream, where it is known, else what it has sent on; up to a bound."""
    return stream_texts(chunks_of(call.stream)) or _texts_sent(call.exchange)


def _texts_sent(exchange: Exchange) -> list[str]:
    chunks: list[object] = []
    for line in b"".join(exchange.output).split(b"\n"):
        if line.startswith(b"data:"):
            with suppress(ValueError, RecursionError):
                chunks.append(json.loads(line[5:]))
    return stream_texts(chunks)


def _count(texts: Sequence[str]) -> int:
    """Tokens by LiteLLM's default tokenizer. It needs milliseconds: never on the request path."""
    from litellm.litellm_core_utils.default_encoding import encoding  # slow to import

    text, rest = [], 0
    left = _MAX_COUNTED_CHARS
    for one in texts:
        text.append(one[:left])
        rest += max(0, len(one) - left)
        left = max(0, left - len(one))
    counted = sum(len(tokens) for tokens in encoding.encode_ordinary_batch(text, num_threads=1))
    return counted + rest // _CHARS_PER_TOKEN
