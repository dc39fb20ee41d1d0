"""A model server whose answers its requests dictate, and which counts them.

`plan.py` decides the answer; `GET /served` and `GET /served/calls?since=N` report what it served.
"""

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from spendmeter_local.upstream import gemini as upstream_gemini
from spendmeter_local.upstream import mcp as upstream_mcp
from spendmeter_local.upstream import media as upstream_media
from spendmeter_local.upstream import shapes as shapes
from spendmeter_local.upstream.objects import UpstreamObjects
from spendmeter_local.upstream.plan import (
    AnswerPlan,
    BadDirectiveError,
    plan_chat,
    plan_completion,
    plan_embedding,
    tool_call_of,
)
from spendmeter_local.upstream.quirks import HANG_SECONDS, disturbed, gives_usage
from spendmeter_local.upstream.served import Outcome, ServedLog
from spendmeter_local.upstream.shapes import Event, Reply

MAX_BODY_BYTES = 64 * 1024 * 1024
MODELS = ("fake-model",)
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError)
"""Exceptions from reading a body with wrong types."""
MAX_RESPONSES_KEPT = 1_000
"""Kept for `GET /v1/responses/{id}`; the oldest are dropped first."""

Body = dict[str, Any]


@dataclass(slots=True)
class Writing:
    """An answer that is being written."""

    request: web.Request
    reply: Reply
    body: Body
    units: int
    outcome: Outcome = "cancelled"
    """The call to count if the client leaves now."""
    written: int = 0
    """Events of a stream."""
    usage_given: bool = False


class Upstream:
    """The application's state: the counts, and numbers for ids."""

    def __init__(self) -> None:
        self._served = ServedLog()
        self._running = 0
        self._responses: OrderedDict[str, Body] = OrderedDict()
        # The start keeps ids apart across restarts.
        self._ids = (f"{int(time.time() * 1000):x}-{number}" for number in itertools.count(1))

    def app(self) -> web.Application:
        """Every route."""
        objects = UpstreamObjects(self._served)
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=objects.middlewares())
        app.router.add_get("/health", _health)
        app.router.add_get("/v1/models", _models)
        app.router.add_get("/served", self._summary)
        app.router.add_get("/served/calls", self._calls)
        for prefix in ("", "/v1"):
            app.router.add_post(f"{prefix}/chat/completions", self._chat)
            app.router.add_post(f"{prefix}/completions", self._completion)
            app.router.add_post(f"{prefix}/embeddings", self._embeddings)
            app.router.add_post(f"{prefix}/messages", self._message)
            app.router.add_post(f"{prefix}/responses", self._response)
            app.router.add_get(f"{prefix}/responses/{{id}}", self._response_again)
        # Azure's protocol is OpenAI's at another path.
        app.router.add_post("/openai/deployments/{model}/chat/completions", self._chat)
        upstream_gemini.add_routes(app, self.answer)
        upstream_media.add_routes(app, self.answer)
        upstream_mcp.add_routes(app)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(
            request, plan_chat, "chatcmpl-", _whole(shapes.chat), _with_usage(shapes.chat_events)
        )

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        streamed = _with_usage(shapes.completion_events)
        return await self.answer(request, plan_completion, "cmpl-", _whole(shapes.completion), streamed)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(
            request, plan_chat, "msg_", _whole(shapes.message), lambda reply, _: shapes.message_events(reply)
        )

    async def _response(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(
            request,
            plan_chat,
            "resp_",
            lambda reply, _: self._kept(shapes.response(reply)),
            lambda reply, _: shapes.response_events(reply),
        )

    def _kept(self, response: Body) -> Body:
        self._responses[response["id"]] = response
        while len(self._responses) > MAX_RESPONSES_KEPT:
            self._responses.popitem(last=False)
        return response

    async def _response_again(self, request: web.Request) -> web.Response:
        """An earlier answer. Reading it again is not counted."""
        response = self._responses.get(request.match_info["id"])
        return _error(404, "no such response") if response is None else web.json_response(response)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, plan_embedding, "embd-", _embedded, None)

    async def answer(
        self,
        request: web.Request,
        plan_for: Callable[[Body], AnswerPlan],
        id_prefix: str,
        whole: Callable[[Reply, Body], Body | bytes],
        streamed: Callable[[Reply, Body], Iterator[Event]] | None,
        *,
        units: Callable[[Body], int] = lambda body: 0,
    ) -> web.StreamResponse:
        """Answer one request as its directive says, and count it.

        `units` are billed units that are not tokens: searches, characters.
        """
        try:
            body = await _body_of(request)
            plan = plan_for(body)
            billed_units = units(body)
        except (*UNREADABLE, BadDirectiveError) as error:
            return _error(400, f"bad request: {error}")
        reply = Reply(
            plan,
            id_prefix + next(self._ids),
            int(time.time()),
            str(body.get("model") or request.match_info.get("model", "")),
            tool_call_of(body, plan.tool_rounds),
        )
        call = Writing(request, reply, body, billed_units)
        self._running += 1
        try:
            if plan.delay_ms:
                await asyncio.sleep(plan.delay_ms / 1000)
            if plan.status != 200:
                call.outcome = "failed"
                return _error(plan.status, f"the directive says to answer {plan.status}")
            match plan.fault:
                case "reset":
                    call.outcome = "failed"
                    return _closed(request)
                case "late":
                    return _error(500, "the directive says to fail after the work")
                case "hang":
                    await asyncio.sleep(HANG_SECONDS)
            call.outcome = "cancelled"
            try:
                events = streamed(reply, body) if streamed and body.get("stream") else None
                answer = whole(reply, body) if events is None else b""
            except UNREADABLE as error:
                # A provider reads the whole request before it works, and bills nothing that it cannot read.
                call.outcome = "failed"
                return _error(400, f"bad request: {error}")
            return await (self._write(call, answer) if events is None else self._stream(call, events))
        finally:
            # Here and not after the return, because only written answers count.
            self._record(call)
            self._running -= 1

    async def _write(self, call: "Writing", answer: Body | bytes) -> web.StreamResponse:
        plan = call.reply.plan
        if isinstance(answer, bytes):
            data, kind, gives = answer, "application/octet-stream", True
        else:
            answer = disturbed(answer, plan.usage)
            gives = gives_usage(answer, plan.output_tokens)
            data, kind = json.dumps(answer).encode(), "application/json"
        if plan.fault == "malformed":
            data, gives = data[: len(data) // 2], False
        response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(data))})
        try:
            await response.prepare(call.request)
            if plan.fault == "cut":
                await response.write(data[: len(data) // 2])
                return _closed(call.request)
            await response.write(data)
            await response.write_eof()
        except ConnectionError:
            return response
        call.outcome, call.usage_given = "served", gives
        return response

    async def _stream(self, call: "Writing", events: Iterator[Event]) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        plan = call.reply.plan
        ends_after = max(1, min(plan.chunks, len(plan.reply)) // 2)
        try:
            await response.prepare(call.request)
            for name, data in events:
                if call.written and plan.chunk_delay_ms:
                    await asyncio.sleep(plan.chunk_delay_ms / 1000)
                if plan.fault == "cut" and call.written >= ends_after:
                    return _closed(call.request)
                changed = disturbed(data, plan.usage)
                line = _encode((name, changed))
                if plan.fault == "malformed" and call.written >= ends_after:
                    await response.write(line[: len(line) // 2] + b"\n\n")
                    break
                await response.write(line)
                call.written += 1
                call.usage_given |= gives_usage(changed, plan.output_tokens)
            await response.write_eof()
        except ConnectionError:
            return response
        call.outcome = "served"
        return response

    def _record(self, call: "Writing") -> None:
        user = call.body.get("user")
        self._served.record(
            call.reply.plan,
            call.outcome,
            id=call.reply.id,
            path=call.request.path,
            model=call.reply.model,
            user=user if isinstance(user, str) else None,
            streamed=bool(call.body.get("stream")),
            chunks_written=call.written,
            units=call.units,
            usage_given=call.usage_given,
        )

    async def _summary(self, _: web.Request) -> web.Response:
        return web.json_response(self._served.summary())

    async def _calls(self, request: web.Request) -> web.Response:
        calls = self._served.calls(int(request.query.get("since", "0")))
        return web.json_response({**calls, "running": self._running})


def _with_usage(events: Callable[..., Iterator[Event]]) -> Callable[[Reply, Body], Iterator[Event]]:
    def streamed(reply: Reply, body: Body) -> Iterator[Event]:
        return events(reply, include_usage=bool((body.get("stream_options") or {}).get("include_usage")))

    return streamed


def _whole(shape: Callable[[Reply], Body]) -> Callable[[Reply, Body], Body]:
    return lambda reply, _: shape(reply)


async def _body_of(request: web.Request) -> Body:
    """The request's JSON, or a form's fields; a file is its number of bytes."""
    if not request.content_type.startswith("multipart/"):
        body: Body = json.loads(await request.read())
        body.update(upstream_gemini.said_by_path(request))
        return body
    fields = await request.post()
    return {
        name: len(value.file.read()) if isinstance(value, web.FileField) else value
        for name, value in fields.items()
    }


def _closed(request: web.Request) -> web.Response:
    """Close the connection during the answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _embedded(reply: Reply, body: Body) -> Body:
    texts = body.get("input")
    return shapes.embeddings(reply, len(texts) if isinstance(texts, list) else 1)


def _encode(event: Event) -> bytes:
    name, data = event
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n").encode()


def _error(status: int, message: str) -> web.Response:
    kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(status, "server_error")
    body = {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}
    return web.json_response(body, status=status)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _models(_: web.Request) -> web.Response:
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "spendmeter"} for name in MODELS]
    return web.json_response({"object": "list", "data": data})
