"""A plan in the shapes of the model providers' APIs. Pure: the id and the time come from the caller."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spendmeter_local.upstream.plan import AnswerPlan

EMBEDDING = [0.25, -0.5, 0.125, 0.0625]

Event = tuple[str | None, dict[str, Any] | str]
"""A server-sent event: its name, if the API names events, and its data."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A plan with the identifiers of this answer."""

    plan: AnswerPlan
    id: str
    created: int
    model: str
    tool: str | None = None
    """The tool that it calls instead of a text."""


def openai_usage(plan: AnswerPlan) -> dict[str, Any]:
    return {
        "prompt_tokens": plan.input_tokens,
        "completion_tokens": plan.output_tokens,
        "total_tokens": plan.input_tokens + plan.output_tokens,
        "prompt_tokens_details": {"cached_tokens": plan.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": plan.reasoning_tokens},
    }


def _finish(plan: AnswerPlan) -> str:
    return "length" if plan.cut_short else "stop"


def _openai(reply: Reply, kind: str, **rest: Any) -> dict[str, Any]:
    return {"id": reply.id, "object": kind, "created": reply.created, "model": reply.model, **rest}


def chat(reply: Reply) -> dict[str, Any]:
    """POST /v1/chat/completions."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.plan.text}
    finish = _finish(reply.plan)
    if reply.tool:
        message |= {"content": None, "tool_calls": [tool_call(reply)]}
        finish = "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return _openai(reply, "chat.completion", choices=[choice], usage=openai_usage(reply.plan))


def tool_call(reply: Reply) -> dict[str, Any]:
    """OpenAI's shape of a call of a tool, without arguments."""
    return {"id": f"call_{reply.id}", "type": "function", "function": {"name": reply.tool, "arguments": "{}"}}


def chat_events(reply: Reply, *, include_usage: bool) -> Iterator[Event]:
    """The same, streamed."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return None, _openai(reply, "chat.completion.chunk", choices=[choice])

    if reply.tool:
        calls = [{"index": 0, **tool_call(reply)}]
        yield chunk({"role": "assistant", "content": None, "tool_calls": calls})
        yield chunk({}, "tool_calls")
    else:
        for number, piece in enumerate(reply.plan.pieces()):
            yield chunk({"content": piece} if number else {"role": "assistant", "content": piece})
        yield chunk({}, _finish(reply.plan))
    yield from _openai_end(reply, "chat.completion.chunk", include_usage)


def completion(reply: Reply) -> dict[str, Any]:
    """POST /v1/completions."""
    choice = {"index": 0, "text": reply.plan.text, "finish_reason": _finish(reply.plan), "logprobs": None}
    return _openai(reply, "text_completion", choices=[choice], usage=openai_usage(reply.plan))


def completion_events(reply: Reply, *, include_usage: bool) -> Iterator[Event]:
    """The same, streamed."""
    pieces = [*reply.plan.pieces()]
    for number, piece in enumerate(pieces, 1):
        finish = _finish(reply.plan) if number == len(pieces) else None
        choice = {"index": 0, "text": piece, "finish_reason": finish, "logprobs": None}
        yield None, _openai(reply, "text_completion", choices=[choice])
    yield from _openai_end(reply, "text_completion", include_usage)


def _openai_end(reply: Reply, kind: str, include_usage: bool) -> Iterator[Event]:
    if include_usage:
        yield None, _openai(reply, kind, choices=[], usage=openai_usage(reply.plan))
    yield None, "[DONE]"


def embeddings(reply: Reply, count: int) -> dict[str, Any]:
    """POST /v1/embeddings."""
    data = [{"object": "embedding", "index": index, "embedding": EMBEDDING} for index in range(count)]
    usage = {"prompt_tokens": reply.plan.input_tokens, "total_tokens": reply.plan.input_tokens}
    return {"object": "list", "data": data, "model": reply.model, "usage": usage}


def anthropic_usage(plan: AnswerPlan) -> dict[str, int]:
    """Anthropic counts cache reads and writes beside `input_tokens`, not in it."""
    return {
        "input_tokens": plan.input_tokens - plan.cached_tokens - plan.cache_write_tokens,
        "cache_read_input_tokens": plan.cached_tokens,
        "cache_creation_input_tokens": plan.cache_write_tokens,
        "output_tokens": plan.output_tokens,
    }


def message(reply: Reply) -> dict[str, Any]:
    """POST /v1/messages."""
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [{"type": "text", "text": reply.plan.text}],
        "stop_reason": "max_tokens" if reply.plan.cut_short else "end_turn",
        "stop_sequence": None,
        "usage": anthropic_usage(reply.plan),
    }


def message_events(reply: Reply) -> Iterator[Event]:
    """The same, streamed."""

    def event(kind: str, **data: Any) -> Event:
        return kind, {"type": kind, **data}

    whole = message(reply)
    started = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 0}}
    yield event("message_start", message=started)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in reply.plan.pieces():
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": reply.plan.output_tokens})
    yield event("message_stop")


def response(reply: Reply, status: str = "completed") -> dict[str, Any]:
    """POST /v1/responses, the part of it that carries text and usage."""
    plan = reply.plan
    content = [{"type": "output_text", "text": plan.text, "annotations": []}]
    item = {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }
    usage = {
        "input_tokens": plan.input_tokens,
        "input_tokens_details": {"cached_tokens": plan.cached_tokens},
        "output_tokens": plan.output_tokens,
        "output_tokens_details": {"reasoning_tokens": plan.reasoning_tokens},
        "total_tokens": plan.input_tokens + plan.output_tokens,
    }
    done = status == "completed"
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "model": reply.model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [item] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def response_events(reply: Reply) -> Iterator[Event]:
    """The same, streamed."""
    yield (
        "response.created",
        {"type": "response.created", "sequence_number": 0, "response": response(reply, "in_progress")},
    )
    number = 0
    for number, piece in enumerate(reply.plan.pieces(), 1):
        kind = "response.output_text.delta"
        place = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}
        yield kind, {"type": kind, "sequence_number": number, **place, "delta": piece, "logprobs": []}
    done = {"type": "response.completed", "sequence_number": number + 1, "response": response(reply)}
    yield "response.completed", done
