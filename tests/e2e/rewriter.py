"""A stand-in around LiteLLM's application: it rewrites refusals, and says who was authenticated.

It loads as a callback, while the server starts. Starlette looks for its middleware at each request.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from urllib.parse import quote

from litellm.integrations.custom_logger import CustomLogger

from producers import door
from producers.admission import Refuse
from producers.litellm_authentication import observe_authentication
from producers.litellm_refusal import litellm_status
from producers.refusal import Refusal, refusal_of
from producers.refusal_response import is_about, refusal_response, with_refusal_headers
from producers.subject import Caller

AUTHENTICATED = "x-test-authenticated"
_Message = dict[str, Any]
_Send = Callable[[_Message], Awaitable[None]]


class Exchange:
    """One request: who makes it, and the latest refusal."""

    def __init__(self) -> None:
        self.auth: object = None
        self.refusal: Refusal | None = None


_exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class Rewriter:
    """Around the application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange()
        token = _exchange.set(exchange)
        start: _Message | None = None
        body = b""

        async def rewritten(message: _Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                user = quote(str(getattr(exchange.auth, "user_id", None)))
                message["headers"] = [*message["headers"], (AUTHENTICATED.encode(), user.encode())]
                if exchange.refusal is not None and message["status"] >= 400:
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                assert exchange.refusal is not None
                if is_about(body, exchange.refusal):
                    made = refusal_response(exchange.refusal, scope["path"], litellm_status=litellm_status())
                    start["headers"] = with_refusal_headers(start["headers"], made)
                    start["status"], message["body"] = made.status, made.body
                await send(start)
            await send(message)

        try:
            await self._app(scope, receive, rewritten)
        finally:
            _exchange.reset(token)


def _refusal_of(refuse: Refuse, caller: Caller, at: datetime) -> Refusal:
    refusal = refusal_of(refuse, caller, at)
    if (exchange := _exchange.get()) is not None:
        exchange.refusal = refusal
    return refusal


def _authenticated(auth: object) -> None:
    if (exchange := _exchange.get()) is not None:
        exchange.auth = auth


class Loader(CustomLogger):  # type: ignore[misc]
    """Puts the rewriter in place."""

    def __init__(self) -> None:
        super().__init__()
        from litellm.proxy.proxy_server import app

        vars(door)["refusal_of"] = _refusal_of
        app.middleware_stack = Rewriter(app.middleware_stack)
        assert observe_authentication(_authenticated)


rewriter = Loader()
