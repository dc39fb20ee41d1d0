"""The ASGI side: around LiteLLM's whole application, it sees where each HTTP exchange begins and ends.

LiteLLM has no hook for the end of an exchange, and several ways to end one without a log event: a client
that leaves before the first byte, a stream that nobody reads. Starlette looks its middleware up at each
request, so the wrapper can be put around it while the server starts.
"""

import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from producers.exchange import Exchange, enter_exchange, leave_exchange

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WATCHED = ("http", "websocket")


class Watch:
    """An ASGI application around another: each exchange is in the context of all that serves it."""

    def __init__(self, app: App, on_end: Callable[[Exchange], None]) -> None:
        self._app, self._on_end = app, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if scope["type"] not in _WATCHED:
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope.get("method", ""), scope.get("path", ""), is_watched=True)
        token = enter_exchange(exchange)
        try:
            await self._app(scope, receive, _Sending(exchange, send))
        finally:
            leave_exchange(token)
            exchange.has_ended = True
            if exchange.caller is not None or exchange.calls:
                self._on_end(exchange)


class _Sending:
    """What the application sends to the client."""

    __slots__ = ("_exchange", "_is_streaming", "_send")

    def __init__(self, exchange: Exchange, send: Send) -> None:
        self._exchange, self._send = exchange, send
        self._is_streaming = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            if message.get("more_body"):
                self._is_streaming = True
                self._exchange.sent(body)
                await self._send(message)
                return
            if self._is_streaming and body:
                self._exchange.sent(body)
            await self._send(message)
            self._exchange.is_complete = True
            return
        await self._send(message)


def install(on_end: Callable[[Exchange], None]) -> bool:
    """Put the wrapper around the proxy's application, once; False while there is none yet."""
    app = getattr(sys.modules.get("litellm.proxy.proxy_server"), "app", None)
    stack = getattr(app, "middleware_stack", None)
    if app is None or stack is None:
        return False
    if not isinstance(stack, Watch):
        app.middleware_stack = Watch(stack, on_end)
    return True
