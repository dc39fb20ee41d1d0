"""Usage events of calls that LiteLLM logs late, mixed up with others of their request, or not at all."""

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import litellm
from litellm.litellm_core_utils.litellm_logging import (
    StandardLoggingPayloadSetup,
    use_custom_pricing_for_model,
)
from litellm.types.utils import ModelResponse, Usage

from producers.exchange import Call, Exchange
from producers.mapping import UsageDraft, usage_of
from producers.payload import mapping
from producers.routes import subject_at
from spendmeter.contract.usage import CostSource

log = logging.getLogger(__name__)

_UNPRICED = CostSource.UNPRICED
# Of one call's texts and output; a longer text is counted by its length.
_MAX_COUNTED_CHARS = 1_000_000
_MAX_PARTS = 20_000
_CHARS_PER_TOKEN = 4
_TOKENS_PER_PART = 4
_NOT_TEXT = ("data", "url", "image_url", "file_data", "b64_json", "signature", "encrypted_content")
_INPUT = (
    "messages", "prompt", "input", "system", "instructions", "tools", "functions", "contents",
    "systemInstruction", "system_instruction", "query", "documents", "text",
)  # fmt: skip
_OUTPUT = (
    "text", "content", "delta", "partial_json", "arguments", "thinking", "reasoning_content", "refusal",
    "choices", "candidates", "parts", "message", "function", "tool_calls",
)  # fmt: skip


class CallDrafts:
    """Makes drafts from what is known of a call itself."""

    def answered(self, call: Call) -> UsageDraft | None:
        """The event of a call that was answered, priced by LiteLLM's prices for its deployment."""
        response = call.response
        if response is None:
            return self.cut(call)
        return _draft(call, response, _of(response, "id"))

    def cut(self, call: Call) -> UsageDraft | None:
        """The event of a call that was given up: an estimate of what went in and what has come out."""
        input_tokens = _tokens_in([call.arguments.get(name) for name in _INPUT])
        output_tokens = _tokens_out(call.exchange) if call.is_streamed else 0
        usage = Usage(
            prompt_tokens=input_tokens,
            completion_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
        )
        response = ModelResponse(model=call.deployment.model, usage=usage)
        draft = _draft(call, response, None)
        return None if draft is None else draft._replace(fields={**draft.fields, "estimated": True})


def charged_to(draft: UsageDraft, call: Call) -> UsageDraft:
    """The draft in the names that its call was admitted under: a log event's are a client's to change."""
    subject = subject_at(call.caller, call.deployment)
    deployment = call.deployment
    fields = {
        **draft.fields,
        **charged_fields(call.caller.subject, call.caller.alias),
        "tags": subject.tags,
        "model": deployment.model or draft.fields.get("model", ""),
        "model_group": subject.model_group or "",
        "provider": deployment.provider or draft.fields.get("provider", ""),
        "deployment": deployment.id or draft.fields.get("deployment"),
    }
    return draft._replace(fields=fields)


def charged_fields(subject: Any, alias: str | None) -> dict[str, Any]:
    """The fields of an event that say who pays."""
    return {
        "key": subject.key or "",
        "key_alias": alias,
        "user": subject.user,
        "team": subject.team,
        "organization": subject.organization,
        "project": subject.project,
        "end_user": subject.end_user,
        "session": subject.session,
        "tags": subject.tags,
    }


def _draft(call: Call, response: object, response_id: object) -> UsageDraft | None:
    arguments, deployment = call.arguments, call.deployment
    usage = StandardLoggingPayloadSetup.get_usage_as_dict({"usage": _of(response, "usage")})
    cost = _cost(call, response)
    payload = {
        "status": "success",
        "id": response_id if isinstance(response_id, str) else str(call.id),
        "litellm_call_id": arguments.get("litellm_call_id"),
        "call_type": call.call_type,
        "response_cost": cost or 0.0,
        "custom_llm_provider": deployment.provider,
        "model": deployment.model,
        "model_group": deployment.model_group,
        "model_id": deployment.id,
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "total_tokens": usage.get("total_tokens", 0),
        "metadata": {"usage_object": usage},
        "response": {"data": _of(response, "data")},
        "model_parameters": {"n": arguments.get("n")},
        "model_map_information": _listed(call, response),
        "stream": call.is_streamed,
    }
    logged = {
        "standard_logging_object": payload,
        "response_cost": cost,
        "litellm_params": {**arguments, "metadata": {"model_info": arguments.get("model_info")}},
    }
    draft = usage_of(logged, event_id=call.id, occurred_at=datetime.now(UTC))
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
    params = {**call.arguments, "metadata": {"model_info": call.arguments.get("model_info")}}
    return bool(use_custom_pricing_for_model(litellm_params=params))


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


def _of(response: object, name: str) -> Any:
    return response.get(name) if isinstance(response, dict) else getattr(response, name, None)


def _tokens_in(values: list[object]) -> int:
    texts: list[str] = []
    parts = 0
    for value in values:
        for text in _texts(value, None):
            parts += 1
            texts.append(text)
    return _count(texts) + _TOKENS_PER_PART * parts


def _tokens_out(exchange: Exchange) -> int:
    """The tokens of what a stream has sent, of which more than the bound counts by its length."""
    sent = b"".join(exchange.output)
    texts = []
    for line in sent.split(b"\n"):
        if line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            texts += list(_texts(event, _OUTPUT))
    tokens = _count(texts)
    return (
        tokens * exchange.output_bytes // max(1, len(sent)) if exchange.output_bytes > len(sent) else tokens
    )


def _texts(value: object, names: tuple[str, ...] | None) -> Iterator[str]:
    """The texts in a value of any shape; of objects only what stands under these names."""
    waiting, left = [value], _MAX_PARTS
    while waiting and left:
        left -= 1
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            waiting.extend(
                of for name, of in part.items() if name not in _NOT_TEXT and (names is None or name in names)
            )


def _count(texts: list[str]) -> int:
    from litellm.litellm_core_utils.default_encoding import encoding  # its file takes a while to load

    text, rest = [], 0
    left = _MAX_COUNTED_CHARS
    for one in texts:
        text.append(one[:left])
        rest += max(0, len(one) - left)
        left = max(0, left - len(one))
    counted = sum(len(tokens) for tokens in encoding.encode_ordinary_batch(text, num_threads=1))
    return counted + rest // _CHARS_PER_TOKEN
