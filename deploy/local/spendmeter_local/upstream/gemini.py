"""Gemini's protocol: `generateContent`, `streamGenerateContent` (events, or one array) and `countTokens`."""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from aiohttp import web

from spendmeter_local.upstream.plan import AnswerPlan, plan_chat
from spendmeter_local.upstream.shapes import Event, Reply

_PATH = re.compile(r"/models/(?P<model>[^:]+):(?P<method>\w+)$")


def add_routes(app: web.Application, answer: Callable[..., Awaitable[web.StreamResponse]]) -> None:
    """Serve the protocol, with and without its version in the path."""

    async def generate(request: web.Request) -> web.StreamResponse:
        if request.path.endswith(":countTokens"):
            return web.json_response({"totalTokens": 1})
        return await answer(request, _plan, "gem-", lambda reply, _: whole(reply), lambda r, _: events(r))

    for prefix in ("", "/v1beta", "/v1"):
        app.router.add_post(f"{prefix}/models/{{call:.+}}", generate)


def said_by_path(request: web.Request) -> dict[str, Any]:
    """The model, and whether to stream: this protocol has them in the path, others in the body."""
    found = _PATH.search(request.path)
    if found is None:
        return {}
    return {"model": found["model"], "stream": found["method"] == "streamGenerateContent"}


def usage(plan: AnswerPlan) -> dict[str, int]:
    """Input includes cached tokens; thinking tokens are not part of the output."""
    return {
        "promptTokenCount": plan.input_tokens,
        "candidatesTokenCount": plan.output_tokens - plan.reasoning_tokens,
        "thoughtsTokenCount": plan.reasoning_tokens,
        "cachedContentTokenCount": plan.cached_tokens,
        "totalTokenCount": plan.input_tokens + plan.output_tokens,
    }


def whole(reply: Reply) -> dict[str, Any]:
    """The answer of `generateContent`."""
    return _part(reply, reply.plan.text, is_last=True)


def events(reply: Reply) -> Iterator[Event]:
    """The same, streamed; the last event has the usage."""
    pieces = [*reply.plan.pieces()]
    for number, piece in enumerate(pieces, 1):
        yield None, _part(reply, piece, is_last=number == len(pieces))


def _part(reply: Reply, text: str, *, is_last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    part: dict[str, Any] = {
        "candidates": [candidate],
        "modelVersion": reply.model,
        "responseId": reply.id,
    }
    if is_last:
        candidate["finishReason"] = "MAX_TOKENS" if reply.plan.cut_short else "STOP"
        part["usageMetadata"] = usage(reply.plan)
    return part


def _plan(body: dict[str, Any]) -> AnswerPlan:
    system = body.get("systemInstruction") or body.get("system_instruction") or {}
    messages = [{"role": "system", "content": system.get("parts")}] if system else []
    messages += [
        {"role": content.get("role") or "user", "content": content.get("parts")}
        for content in body.get("contents", [])
    ]
    config = body.get("generationConfig") or body.get("generation_config") or {}
    maximum = config.get("maxOutputTokens") or config.get("max_output_tokens")
    return plan_chat({"messages": messages, "max_tokens": maximum})
