"""Everything that is not text to text: rerank, images, transcriptions, speech, moderations.

Each answer has the counts of its directive, in the shape of its API. The directive is in the request's
text (a query, a prompt, the `prompt` field of a form).
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from spendmeter_local.upstream.plan import AnswerPlan, plan_texts
from spendmeter_local.upstream.shapes import Reply, openai_usage

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

Body = dict[str, Any]
Answer = Callable[..., Awaitable[web.StreamResponse]]


def add_routes(app: web.Application, answer: Answer) -> None:
    """Serve the APIs."""

    def serves(
        path: str, plan: Callable[[Body], AnswerPlan], shape: Callable[[Reply, Body], Any], **more: Any
    ) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await answer(request, plan, "media-", shape, None, **more)

        for prefix in ("", "/v1"):
            app.router.add_post(f"{prefix}/{path}", handle)
        app.router.add_post(f"/v2/{path}", handle)

    serves("rerank", lambda body: _of(body, "query"), _ranked, units=lambda body: 1)
    serves("images/generations", lambda body: _of(body, "prompt"), _images)
    serves("audio/transcriptions", lambda body: _of(body, "prompt"), _transcribed)
    serves("audio/speech", lambda body: _of(body, "input"), _spoken, units=lambda body: len(body["input"]))
    serves("moderations", lambda body: replace(_of(body, "input"), output_tokens=0), _moderated)


def _of(body: Body, name: str) -> AnswerPlan:
    said = body.get(name)
    return plan_texts(" ".join(map(str, said)) if isinstance(said, list) else str(said or ""))


def _ranked(reply: Reply, body: Body) -> Body:
    """Cohere's shape: searches are billed."""
    results = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(body.get("documents") or []))]
    units = {"billed_units": {"search_units": 1}}
    return {
        "id": reply.id,
        "results": results,
        "meta": units,
    }


def _images(reply: Reply, body: Body) -> Body:
    usage = {
        "input_tokens": reply.plan.input_tokens,
        "output_tokens": reply.plan.output_tokens,
        "total_tokens": reply.plan.input_tokens + reply.plan.output_tokens,
        "input_tokens_details": {"text_tokens": reply.plan.input_tokens, "image_tokens": 0},
    }
    data = [{"b64_json": _PIXEL} for _ in range(int(body.get("n") or 1))]
    return {"created": reply.created, "data": data, "usage": usage}


def _transcribed(reply: Reply, _: Body) -> Body:
    usage = {
        "type": "tokens",
        "input_tokens": reply.plan.input_tokens,
        "output_tokens": reply.plan.output_tokens,
        "total_tokens": reply.plan.input_tokens + reply.plan.output_tokens,
        "input_token_details": {"audio_tokens": reply.plan.input_tokens, "text_tokens": 0},
    }
    return {"text": reply.plan.text, "usage": usage}


def _spoken(reply: Reply, _: Body) -> bytes:
    return b"ID3" + reply.plan.text.encode()


def _moderated(reply: Reply, body: Body) -> Body:
    flags = {"violence": False}
    result = {"flagged": False, "categories": flags, "category_scores": {"violence": 0.0}}
    return {"id": reply.id, "model": reply.model, "results": [result], "usage": openai_usage(reply.plan)}
