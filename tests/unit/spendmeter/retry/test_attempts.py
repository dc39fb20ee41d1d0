"""Calls, blocks, decorated functions and transports that wait; the refusals are short ones."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import httpx
import litellm
import openai
import pytest

from spendmeter.client import when_budget_allows
from spendmeter.retry import Attempts, RetryPolicy, SpendThresholds, Waiting, waits, when_budget_allows_sync
from spendmeter.retry.http import AsyncWaitingTransport, WaitingTransport

SOON = RetryPolicy(poll_seconds=0.001)
REFUSED = litellm.BudgetExceededError(current_cost=2.0, max_budget=1.0)
BODY = {
    "error": {
        "type": "budget_exceeded",
        "message": "Budget has been exceeded! Current cost: 2, Max budget: 1",
    }
}


class Gate:
    """A call that is refused so many times, or fails otherwise."""

    def __init__(self, refusals: int, then: Exception | None = None) -> None:
        self.calls, self._refusals, self._then = 0, refusals, then

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._refusals:
            raise REFUSED
        if self._then is not None:
            raise self._then
        return "served"

    async def later(self) -> str:
        return self()


async def test_a_call_waits_until_it_is_served_and_tells_each_wait() -> None:
    gate, told = Gate(2), list[Waiting]()
    assert await when_budget_allows(gate.later, SOON, on_wait=told.append) == "served"
    assert [(one.attempt, one.spent_usd, one.limit_usd) for one in told] == [
        (1, Decimal(2), Decimal(1)),
        (2, Decimal(2), Decimal(1)),
    ]


async def test_a_progress_callback_may_be_a_coroutine() -> None:
    told = list[Waiting]()

    async def on_wait(waiting: Waiting) -> None:
        await asyncio.sleep(0)
        told.append(waiting)

    await when_budget_allows(Gate(1).later, SOON, on_wait=on_wait)
    assert len(told) == 1


def test_the_same_without_a_loop() -> None:
    gate = Gate(2)
    assert when_budget_allows_sync(gate, SOON) == "served"
    assert gate.calls == 3


@pytest.mark.parametrize("refusals", [0, 1])
async def test_what_is_no_refusal_is_raised_at_once(refusals: int) -> None:
    gate = Gate(refusals, ValueError("another"))
    with pytest.raises(ValueError, match="another"):
        await when_budget_allows(gate.later, SOON)
    assert gate.calls == refusals + 1


async def test_when_patience_ends_the_last_refusal_is_raised() -> None:
    gate = Gate(9)
    with pytest.raises(litellm.BudgetExceededError):
        await when_budget_allows(gate.later, RetryPolicy(max_attempts=3, poll_seconds=0.001))
    assert gate.calls == 3


async def test_a_call_that_is_cancelled_waits_no_longer() -> None:
    waiting = asyncio.Event()
    call = asyncio.create_task(when_budget_allows(Gate(1).later, on_wait=lambda _: waiting.set()))
    await waiting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_decorated_functions_wait_and_keep_their_arguments() -> None:
    gate = Gate(1)

    @waits(SOON)
    async def asks(question: str, *, loud: bool) -> str:
        """Docs."""
        return f"{question} {loud} {gate()}"

    @waits(SOON)
    def asks_sync(question: str) -> str:
        return f"{question} {gate()}"

    assert await asks("why", loud=True) == "why True served"
    gate.calls = 0
    assert asks_sync("how") == "how served"
    assert asks.__doc__ == "Docs."


async def test_a_block_is_made_again_until_it_is_served() -> None:
    gate, made = Gate(2), 0
    async for attempt in Attempts(SOON):
        async with attempt:
            made += 1
            await gate.later()
    assert (gate.calls, made) == (3, 3)
    gate.calls = 0
    for blocking in Attempts(SOON):
        with blocking:
            gate()
    assert gate.calls == 3


# Transports.


class Server:
    """Answers with these statuses in turn, the last for ever; counts, and compresses as a server may."""

    def __init__(self, *statuses: int, **headers: str) -> None:
        self.asked: list[bytes] = []
        self._statuses, self._headers = list(statuses), headers

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.content)
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        body: object = (
            {"object": "list", "data": []} if status == 200 else BODY if status == 422 else {"error": {}}
        )
        headers = {name.replace("_", "-"): value for name, value in self._headers.items()}
        content = gzip.compress(json.dumps(body).encode())
        return httpx.Response(status, headers={**headers, "content-encoding": "gzip"}, content=content)

    def client(self, policy: RetryPolicy = SOON, fractions: SpendThresholds | None = None) -> httpx.Client:
        inner = httpx.MockTransport(self)
        return httpx.Client(transport=WaitingTransport(policy, fractions=fractions, transport=inner))


def test_a_request_is_made_again_with_its_body_until_it_is_served() -> None:
    server = Server(422, 422, 200)
    with server.client() as client:
        assert client.post("http://gateway.test", json={"a": 1}).status_code == 200
    assert server.asked == [b'{"a":1}'] * 3


def test_the_refusal_is_handed_on_whole_when_patience_ends() -> None:
    with Server(422).client(RetryPolicy(max_attempts=2, poll_seconds=0.001)) as client:
        answer = client.post("http://gateway.test", json={})
    assert (answer.status_code, answer.json()) == (422, BODY)


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
def test_every_other_answer_is_handed_on_at_once(status: int) -> None:
    server = Server(status)
    with server.client() as client:
        assert client.post("http://gateway.test", json={}).status_code == status
    assert len(server.asked) == 1


def test_a_body_that_cannot_be_sent_twice_is_not_waited_for() -> None:
    def body() -> Iterator[bytes]:
        yield b"once"

    server = Server(422, 200)
    with server.client() as client:
        assert client.post("http://gateway.test", content=body()).status_code == 422


async def test_the_openai_client_waits_by_its_transport() -> None:
    server, told = Server(422, 200), list[Waiting]()
    transport = AsyncWaitingTransport(SOON, on_wait=told.append, transport=httpx.MockTransport(server))
    async with httpx.AsyncClient(transport=transport) as http:
        client = openai.AsyncOpenAI(base_url="http://gateway.test", api_key="k", http_client=http)
        assert (await client.models.list()).data == []
    assert (len(server.asked), len(told)) == (2, 1)


async def test_a_generator_is_handed_on_refused_in_a_loop_too() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    transport = AsyncWaitingTransport(SOON, transport=httpx.MockTransport(Server(422, 200)))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.post("http://gateway.test", content=body())).status_code == 422


def test_budget_headers_tell_the_fractions() -> None:
    told: list[tuple[float, Decimal]] = []
    fractions = SpendThresholds([0.5], lambda reached: told.append((reached.fraction, reached.spent_usd)))
    headers = {"x_spendmeter_budget": "b", "x_spendmeter_budget_limit_usd": "1"}
    for left in ("0.51", "0.5", "0.4"):
        with Server(200, **headers, x_spendmeter_budget_remaining_usd=left).client(
            fractions=fractions
        ) as client:
            client.get("http://gateway.test")
    assert told == [(0.5, Decimal("0.5"))]
