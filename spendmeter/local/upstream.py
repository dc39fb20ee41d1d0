"""`python -m spendmeter.local.upstream --port N`: a model server that answers as it is told, and counts.

What it answers is in `upstream_plan.py`; `GET /served` and `GET /served/calls?since=N` say what it served.
"""

import asyncio
import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import click
from aiohttp import web

from spendmeter.local import upstream_shapes as shapes
from spendmeter.local.ports import LOOPBACK
from spendmeter.local.upstream_plan import (
    BadDirectiveError,
    Plan,
    plan_chat,
    plan_completion,
    plan_embedding,
)
from spendmeter.local.upstream_served import Outcome, Served
from spendmeter.local.upstream_shapes import Event, Reply

MAX_BODY_BYTES = 64 * 1024 * 1024
MODELS = ("fake-model",)
MAX_RESPONSES_KEPT = 1_000
"""To be read again with `GET /v1/responses/{id}`; the oldest go first."""

Body = dict[str, Any]


class Upstream:
    """The application's state: the counts, and numbers for ids."""

    def __init__(self) -> None:
        self._served = Served()
        self._responses: OrderedDict[str, Body] = OrderedDict()
        # The start keeps ids apart across restarts.
        self._ids = (f"{int(time.time() * 1000):x}-{number}" for number in itertools.count(1))

    def app(self) -> web.Application:
        """Every route."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
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
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request, plan_chat, "chatcmpl-", _whole(shapes.chat), _with_usage(shapes.chat_events)
        )

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        streamed = _with_usage(shapes.completion_events)
        return await self._answer(request, plan_completion, "cmpl-", _whole(shapes.completion), streamed)

    async def _message(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request, plan_chat, "msg_", _whole(shapes.message), lambda reply, _: shapes.message_events(reply)
        )

    async def _response(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
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
        """What was answered before. It is nothing that is served, so nothing is counted."""
        response = self._responses.get(request.match_info["id"])
        return _error(404, "no such response") if response is None else web.json_response(response)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, plan_embedding, "embd-", _embedded, None)

    async def _answer(
        self,
        request: web.Request,
        plan_for: Callable[[Body], Plan],
        id_prefix: str,
        whole: Callable[[Reply, Body], Body],
        streamed: Callable[[Reply, Body], Iterator[Event]] | None,
    ) -> web.StreamResponse:
        try:
            body = json.loads(await request.read())
            plan = plan_for(body)
        except (ValueError, AttributeError, BadDirectiveError) as error:
            return _error(400, f"bad request: {error}")
        reply = Reply(plan, id_prefix + next(self._ids), int(time.time()), str(body.get("model", "")))
        if plan.delay_ms:
            await asyncio.sleep(plan.delay_ms / 1000)
        if plan.status != 200:
            self._record(request, reply, body, "failed", 0)
            return _error(plan.status, f"told to answer {plan.status}")
        if streamed and body.get("stream"):
            return await self._stream(request, reply, body, streamed(reply, body))
        return await self._write(request, reply, body, whole(reply, body))

    async def _write(
        self, request: web.Request, reply: Reply, body: Body, answer: Body
    ) -> web.StreamResponse:
        response = web.json_response(answer)
        outcome: Outcome = "served"
        try:
            # Here and not after the return: only what was written is counted.
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            outcome = "cancelled"
        self._record(request, reply, body, outcome, 0)
        return response

    async def _stream(
        self, request: web.Request, reply: Reply, body: Body, events: Iterator[Event]
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        outcome: Outcome = "served"
        written = 0
        try:
            await response.prepare(request)
            for event in events:
                if written and reply.plan.chunk_delay_ms:
                    await asyncio.sleep(reply.plan.chunk_delay_ms / 1000)
                await response.write(_encode(event))
                written += 1
            await response.write_eof()
        except ConnectionError:
            outcome = "cancelled"
        self._record(request, reply, body, outcome, written)
        return response

    def _record(self, request: web.Request, reply: Reply, body: Body, outcome: Outcome, written: int) -> None:
        user = body.get("user")
        self._served.record(
            reply.plan,
            outcome,
            id=reply.id,
            path=request.path,
            model=reply.model,
            user=user if isinstance(user, str) else None,
            streamed=bool(body.get("stream")),
            chunks_written=written,
        )

    async def _summary(self, _: web.Request) -> web.Response:
        return web.json_response(self._served.summary())

    async def _calls(self, request: web.Request) -> web.Response:
        return web.json_response(self._served.calls(int(request.query.get("since", "0"))))


def _with_usage(events: Callable[..., Iterator[Event]]) -> Callable[[Reply, Body], Iterator[Event]]:
    def streamed(reply: Reply, body: Body) -> Iterator[Event]:
        return events(reply, include_usage=bool((body.get("stream_options") or {}).get("include_usage")))

    return streamed


def _whole(shape: Callable[[Reply], Body]) -> Callable[[Reply, Body], Body]:
    return lambda reply, _: shape(reply)


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


@click.command()
@click.option("--port", type=int, required=True, help=f"Port on {LOOPBACK}.")
def main(port: int) -> None:
    """Serve the fake model API until SIGTERM."""
    web.run_app(Upstream().app(), host=LOOPBACK, port=port, print=lambda _: None, access_log=None)


if __name__ == "__main__":
    main()
