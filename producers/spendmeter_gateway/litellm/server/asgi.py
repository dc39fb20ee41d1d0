"""The ASGI side: around LiteLLM's whole application, it sees where each HTTP exchange begins and ends.

LiteLLM has no hook for the end of an exchange, and several ways to end one without a log event: a client
that leaves before the first byte, a stream that nobody reads. Starlette reads its middleware at each
request, so the wrapper can be put around it while the server starts.
"""

import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import Gauge

from spendmeter_gateway.exchange import Exchange, enter_exchange, leave_exchange
from spendmeter_gateway.litellm.server.refusal_response import (
    is_about,
    refusal_response,
    with_refusal_headers,
)

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RUNNING = Gauge("spendmeter_running_exchanges", "HTTP exchanges that the proxy serves now.")

_WATCHED = ("http", "websocket")
# An error's body that may be a refusal is held back until it is whole; a longer one is none.
MAX_ERROR_BYTES = 256 * 1024


class Watch:
    """An ASGI application around another: each exchange is in the context of all that serves it."""

    def __init__(
        self, app: App, on_end: Callable[[Exchange], None], litellm_status: Callable[[], int]
    ) -> None:
        """`litellm_status` is the status with which LiteLLM's own budgets refuse."""
        self._app, self._on_end, self._litellm_status = app, on_end, litellm_status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] not in _WATCHED:
            await self._app(scope, receive, send)
            return
        # To the end: what runs no longer is settled, or among what waits for that.
        with RUNNING.track_inprogress():
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope.get("method", ""), scope.get("path", ""), is_watched=True)
        token = enter_exchange(exchange)
        try:
            await self._app(scope, receive, _Sending(exchange, send, self._litellm_status))
        finally:
            leave_exchange(token)
            exchange.has_ended = True
            if exchange.caller is not None:
                try:
                    self._on_end(exchange)
                except Exception:
                    log.exception("the end of an exchange could not be noted")


class _Sending:
    """What goes to the client. A refusal gets its shape here: LiteLLM changes it by the route."""

    __slots__ = ("_body", "_exchange", "_is_encoded", "_is_streaming", "_litellm_status", "_send", "_start")

    def __init__(self, exchange: Exchange, send: Send, litellm_status: Callable[[], int]) -> None:
        self._exchange, self._send, self._litellm_status = exchange, send, litellm_status
        self._is_streaming = self._is_encoded = False
        self._start: Message | None = None
        """The beginning of an error that may be a refusal, held back."""
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Send a message on, or hold it back until it is known what it is."""
        kind = message["type"]
        if kind == "http.response.start":
            if message["status"] >= 400 and self._exchange.refusals:
                self._start = message
                return
            if any(name.lower() == b"content-encoding" for name, _ in message.get("headers", ())):
                # A compressed stream is not read, so no chunk of it can be left out.
                self._exchange.usage_filter, self._is_encoded = None, True
        elif kind == "http.response.body":
            await self._send_body(message)
            return
        await self._send(message)

    async def _send_body(self, message: Message) -> None:
        body, has_more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            self._body += body
            if has_more and len(self._body) <= MAX_ERROR_BYTES:
                return
            message = await self._sent_error(message, has_more=has_more)
        elif has_more or (self._is_streaming and body):
            self._is_streaming = True
            self._exchange.sent(body, is_readable=not self._is_encoded)
        if self._exchange.usage_filter is not None:
            passed = self._exchange.usage_filter.feed(message.get("body", b""), is_last=not has_more)
            message = {**message, "body": passed}
        await self._send(message)
        if not has_more:
            self._exchange.is_complete = True

    async def _sent_error(self, message: Message, *, has_more: bool) -> Message:
        """Send the beginning of an error; returns what of it is yet to be sent."""
        start, body = self._start, self._body
        self._start, self._body = None, b""
        refusals = () if has_more else self._exchange.refusals
        refusal = next((one for one in refusals if is_about(body, one)), None)
        if start is None:
            return {**message, "body": body}
        if refusal is None:
            await self._send(start)
            return {**message, "body": body}
        shaped = refusal_response(refusal, self._exchange.path, litellm_status=self._litellm_status())
        headers = with_refusal_headers(start.get("headers", ()), shaped)
        await self._send({**start, "status": shaped.status, "headers": headers})
        return {**message, "body": shaped.body}


def install(on_end: Callable[[Exchange], None], litellm_status: Callable[[], int]) -> bool:
    """Put the wrapper around the proxy's application, once; False while there is none yet."""
    app = getattr(sys.modules.get("litellm.proxy.proxy_server"), "app", None)
    stack = getattr(app, "middleware_stack", None)
    if app is None or stack is None:
        return False
    if not isinstance(stack, Watch):
        app.middleware_stack = Watch(stack, on_end, litellm_status)
    return True
