"""A receiver of alerts as anybody may run it: an HTTP server that accepts, fails, hangs, limits, restarts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

from aiohttp import web

from spendmeter_local.ports import LOOPBACK, free_port

WITHIN_SECONDS = 120.0
"""Enough for what a test waits for; a run of thousands gives its own time."""


class Received(NamedTuple):
    """A request, and how it was answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    """What a server answers, once `when` is set; `hang` is not at all."""

    status: int = 200
    headers: Mapping[str, str] | None = None
    hang: bool = False
    when: asyncio.Event | None = None


class HttpServer:
    """Answers as `behave` says, request by request; keeps what it was sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[Received] = []
        self.behave: Callable[[int], Reply] = lambda number: Reply()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._gone = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        server = cls()
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def accepted(self) -> list[Received]:
        return [request for request in self.requests if request.status < 300]

    async def start(self) -> None:
        self._gone = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port, reuse_address=True).start()

    async def stop(self) -> None:
        """Be gone: connections are closed, and new ones refused."""
        self._gone.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def until(self, enough: Callable[[], bool], within_seconds: float = WITHIN_SECONDS) -> None:
        """Wait for requests until that holds."""
        async with asyncio.timeout(within_seconds), self._changed:
            await self._changed.wait_for(enough)

    async def until_accepted(self, count: int) -> None:
        await self.until(lambda: len(self.accepted) >= count)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        reply = self.behave(len(self.requests))
        headers = {name.lower(): value for name, value in request.headers.items()}
        # What is hung up on may have been received all the same.
        status = 599 if reply.hang else reply.status
        self.requests.append(Received(request.path, headers, body, time.time(), status))
        async with self._changed:
            self._changed.notify_all()
        if reply.hang:
            await self._gone.wait()
        if reply.when is not None:
            await reply.when.wait()
        return web.Response(status=reply.status, headers=reply.headers)
