"""An httpx transport that waits while a budget is spent: for httpx, and the OpenAI and Anthropic clients.

openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=AsyncWaitingTransport()))

A streamed answer needs nothing more, because a refusal comes before its first byte.
"""

import asyncio
import inspect
import time
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

try:
    import httpx
except ImportError as missing:
    raise ImportError("waiting transports need httpx: pip install httpx (openai brings it)") from missing

from spendmeter.retry.attempts import DEFAULT_POLICY, OnWait, next_wait
from spendmeter.retry.policy import RetryPolicy, RetryState, SpendThresholds, Waiting
from spendmeter.retry.refusals import STATUSES, read_refusal


class WaitingTransport(httpx.BaseTransport):
    """Repeats requests that a budget refused once they may be served; passes on every other answer.

    `transport` makes the connections, by default httpx's own. `fractions` work if the
    gateway sends budget headers (`SPENDMETER_BUDGET_HEADERS=true`). A request whose body cannot be sent
    twice (a generator) is not repeated.
    """

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT_POLICY,
        *,
        on_wait: OnWait | None = None,
        fractions: SpendThresholds | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._policy, self._on_wait, self._fractions = policy, on_wait, fractions
        self._inner = transport or httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make one request, as often as the budget requires. Raises what the inner transport raises."""
        state, is_bytes = RetryState(self._policy), isinstance(request.stream, httpx.ByteStream)
        while True:
            response = self._inner.handle_request(request)
            _see(self._fractions, response.headers)
            if not is_bytes or response.status_code not in STATUSES:
                return response
            assert isinstance(response.stream, httpx.SyncByteStream)
            raw = b"".join(response.stream)
            response.close()
            answer, waiting = _judged(state, request, response, raw)
            if waiting is None:
                return answer
            if self._on_wait is not None:
                self._on_wait(waiting)
            time.sleep(waiting.wait_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


class AsyncWaitingTransport(httpx.AsyncBaseTransport):
    """The same for an event loop."""

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT_POLICY,
        *,
        on_wait: OnWait | None = None,
        fractions: SpendThresholds | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._policy, self._on_wait, self._fractions = policy, on_wait, fractions
        self._inner = transport or httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one request, as often as the budget requires. Raises what the inner transport raises."""
        state, is_bytes = RetryState(self._policy), isinstance(request.stream, httpx.ByteStream)
        while True:
            response = await self._inner.handle_async_request(request)
            _see(self._fractions, response.headers)
            if not is_bytes or response.status_code not in STATUSES:
                return response
            assert isinstance(response.stream, httpx.AsyncByteStream)
            raw = b"".join([part async for part in response.stream])
            await response.aclose()
            answer, waiting = _judged(state, request, response, raw)
            if waiting is None:
                return answer
            if self._on_wait is not None:
                result = self._on_wait(waiting)
                if inspect.isawaitable(result):
                    await result
            await asyncio.sleep(waiting.wait_seconds)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


def _judged(
    state: RetryState, request: httpx.Request, response: httpx.Response, raw: bytes
) -> tuple[httpx.Response, Waiting | None]:
    """The unchanged answer, whose bytes had to be read, and the wait if it is a refusal."""

    def again() -> httpx.Response:
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx.ByteStream(raw),
            request=request,
            extensions=response.extensions,
        )

    refusal = read_refusal(response.status_code, response.headers, again().read())
    return again(), None if refusal is None else next_wait(state, refusal)


def _see(fractions: SpendThresholds | None, headers: Mapping[str, str]) -> None:
    budget = headers.get("x-spendmeter-budget")
    if fractions is None or budget is None:
        return
    try:
        limit = Decimal(headers["x-spendmeter-budget-limit-usd"])
        remaining = Decimal(headers["x-spendmeter-budget-remaining-usd"])
    except (KeyError, InvalidOperation):
        # A refusal names its budget only.
        return
    window = (budget, headers.get("x-spendmeter-budget-resets-at"))
    fractions.see(window, budget, limit - remaining, limit)
