"""`strict` budgets on the real proxy: what is held, that it is let go of, and who is refused."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from spendmeter.client import connect
from spendmeter.contract.budget import Budget, Enforcement
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy

HOLDS = "spendmeter_holds"
RECORDED = "spendmeter_outbox_recorded_total"
OUTPUT = 600
"""Nano-USD per token of gpt-4o-mini's answers."""


class Client:
    """A key of its own under a strict budget of its own."""

    def __init__(self, proxy: Proxy, limit_nanousd: int, **of_the_budget: Any) -> None:
        self.proxy = proxy
        self.name = f"strict-{uuid4().hex[:8]}"
        self.budget = Budget.model_validate(
            {
                "id": self.name,
                "match": {"user": self.name},
                "limit_nanousd": limit_nanousd,
                "period": "lifetime",
                "enforcement": "strict",
                "updated_at": datetime.now(UTC),
            }
            | of_the_budget
        )
        self.applies(self.budget)

    def applies(self, *budgets: Budget) -> None:
        asyncio.run(_apply(self.proxy, *budgets))
        # A key with a budget is answered once every budget is being enforced.
        self.key = self.proxy.key(key_alias=f"k-{uuid4().hex[:8]}", user_id=self.name, max_budget=9)["key"]

    def asks(
        self,
        directive: str = "out=10",
        *,
        path: str = "/v1/chat/completions",
        timeout: float = 60,
        **body: Any,
    ) -> httpx.Response:
        return httpx.post(
            f"{self.proxy.url}{path}",
            json={name: value for name, value in (chat(directive) | body).items() if value is not None},
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=timeout,
        )

    def spent(self) -> int:
        """What the gateway recorded for this client, by its log of refusals: ask and be refused."""
        refused = self.asks(model="mini", max_tokens=16_000)
        assert refused.status_code == 422, refused.text
        decision = refused.headers["x-spendmeter-decision"]
        facts = next(
            line for line in self.proxy.log.read_text().splitlines() if f"decision={decision}" in line
        )
        return int(facts.split("spent_nanousd=")[1].split()[0])


async def _apply(proxy: Proxy, *budgets: Budget) -> None:
    async with connect(proxy.settings) as client:
        await client.apply(list(budgets))


def chat(directive: str) -> dict[str, Any]:
    text = f"Say something about {uuid4().hex}. [[{directive}]]"
    return {"model": "mini", "messages": [{"role": "user", "content": text}]}


def served_by(answer: httpx.Response) -> str:
    """The provider: OpenAI's protocol has its version in the base of the address."""
    return "openai" if answer.headers["x-litellm-model-api-base"].endswith("/v1") else "anthropic"


def until_recorded(proxy: Proxy, events: float) -> None:
    assert wait_until(lambda: proxy.metric(RECORDED) >= events, timeout_seconds=WITHIN_SECONDS)


def until_held(proxy: Proxy, holds: int) -> None:
    held: list[float] = []

    def is_held() -> bool:
        held[:] = [proxy.metric(HOLDS)]
        return held[0] == holds

    assert wait_until(is_held, timeout_seconds=WITHIN_SECONDS), (held, proxy.log.read_text()[-4000:])


ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {}),
    "chat, streamed": ("/v1/chat/completions", {"stream": True}),
    "messages": ("/v1/messages", {"model": "claude", "max_tokens": 100}),
    "messages, streamed": ("/v1/messages", {"model": "claude", "max_tokens": 100, "stream": True}),
    "responses": ("/v1/responses", {"messages": None, "input": "Hello. [[out=10 delay_ms=1500]]"}),
    "embeddings": (
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "messages": None, "input": "Hello. [[delay_ms=1500]]"},
    ),
}


class TestNoHoldSurvivesItsRequest:
    @pytest.fixture(autouse=True)
    def let_go(self, strict: Proxy) -> Iterator[None]:
        until_held(strict, 0)
        yield
        until_held(strict, 0)
        assert strict.metric("spendmeter_holds_expired_total") == 0
        assert strict.metric("spendmeter_internal_errors_total") == 0, strict.log.read_text()[-4000:]

    @pytest.fixture
    def client(self, strict: Proxy) -> Client:
        return Client(strict, 10**9)

    @pytest.mark.parametrize("route", ROUTES)
    def test_served(self, strict: Proxy, client: Client, route: str) -> None:
        path, body = ROUTES[route]
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client.asks, "out=10 delay_ms=1500", path=path, **body)
            until_held(strict, 1)
            assert asking.result().status_code == 200, asking.result().text

    @pytest.mark.parametrize("stream", [False, True])
    def test_the_client_leaves(self, strict: Proxy, client: Client, stream: bool) -> None:
        with pytest.raises(httpx.ReadTimeout):
            client.asks("out=5 delay_ms=3000", stream=stream, timeout=1)

    def test_the_client_leaves_in_the_middle_of_a_stream(self, strict: Proxy, client: Client) -> None:
        body = chat("out=200 chunks=100 chunk_delay_ms=100") | {"stream": True}
        headers = {"Authorization": f"Bearer {client.key}"}
        url = f"{strict.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=WITHIN_SECONDS) as answer:
            lines = answer.iter_lines()
            assert next(lines)
            until_held(strict, 1)

    def test_the_client_leaves_while_it_waits_in_line(self, strict: Proxy) -> None:
        client = Client(strict, 1_000 * OUTPUT)
        with ThreadPoolExecutor(1) as pool:
            recorded = strict.metric(RECORDED)
            running = pool.submit(client.asks, "out=10 delay_ms=3000", max_tokens=900)
            until_held(strict, 1)
            with pytest.raises(httpx.ReadTimeout):
                client.asks(max_tokens=900, timeout=1)
            assert running.result().status_code == 200
        # LiteLLM tells no pre-call hook that a client has left: it is served when its turn comes.
        until_recorded(strict, recorded + 2)

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_the_provider_fails(self, strict: Proxy, client: Client, status: int, stream: bool) -> None:
        assert client.asks(f"status={status}", stream=stream).status_code >= 400

    def test_the_provider_is_too_slow(self, strict: Proxy, client: Client) -> None:
        answer = httpx.post(
            f"{strict.url}/v1/chat/completions",
            json=chat("out=5 delay_ms=3000") | {"timeout": 0.5},
            headers={"Authorization": f"Bearer {client.key}"},
            timeout=WITHIN_SECONDS,
        )
        assert answer.status_code >= 400

    def test_a_fallback_serves(self, strict: Proxy, client: Client) -> None:
        answer = client.asks(model="dead")
        assert answer.status_code == 200, answer.text

    def test_the_cache_serves(self, strict: Proxy, client: Client) -> None:
        body = chat("out=10")
        recorded = strict.metric(RECORDED)
        for more in (1, 2):
            assert client.asks(**body).status_code == 200
            until_recorded(strict, recorded + more)

    def test_another_callback_fails(self, strict: Proxy, client: Client) -> None:
        assert client.asks(user="trouble").status_code >= 400

    def test_the_model_does_not_exist(self, strict: Proxy, client: Client) -> None:
        assert client.asks(model="no-such-model").status_code >= 400

    def test_the_request_makes_no_sense(self, strict: Proxy, client: Client) -> None:
        assert client.asks(messages="nonsense").status_code >= 400


def test_what_is_left_limits_the_answer_and_then_refuses(strict: Proxy) -> None:
    client = Client(strict, 200 * OUTPUT)
    answer = client.asks("out=500")

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens"] < 500
    assert 0 < client.spent() <= client.budget.limit_nanousd
    refused = client.asks()
    assert refused.json()["error"]["type"] == "budget_exceeded"
    assert f"Budget would be exceeded! User={client.name} " in refused.text
    assert refused.headers["x-spendmeter-budget"] == client.budget.id


def test_what_fits_only_once_another_settles_waits_and_is_served(strict: Proxy) -> None:
    # One answer of 1,000 tokens fits, two do not; each uses 10.
    client = Client(strict, 1_000 * OUTPUT * 3 // 2)
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(client.asks, "out=10 delay_ms=300", max_tokens=1_000) for _ in range(4)]
        assert [one.result().status_code for one in asking] == [200] * 4
    assert strict.metric("spendmeter_waited_total") >= 1


@pytest.mark.parametrize("max_tokens", [None, 100])
def test_clients_that_race_spend_no_more_than_the_limit(strict: Proxy, max_tokens: int | None) -> None:
    client = Client(strict, 600_000)
    limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}

    def spend() -> list[int]:
        return [client.asks("out=80 delay_ms=20", **limit).status_code for _ in range(6)]

    with ThreadPoolExecutor(8) as pool:
        codes = [code for one in [pool.submit(spend) for _ in range(8)] for code in one.result()]
    assert set(codes) == {200, 422}
    until_held(strict, 0)
    spent = client.spent()
    assert spent <= client.budget.limit_nanousd
    # The last refusals are those of what the rest does not pay for.
    assert spent > client.budget.limit_nanousd - 100 * OUTPUT


def test_a_model_without_a_price_is_held_at_nothing_or_refused(strict: Proxy) -> None:
    assert Client(strict, 1_000).asks(model="unpriced").status_code == 200
    refused = Client(strict, 1_000, unpriced="block").asks(model="unpriced")
    assert refused.status_code == 403
    assert refused.json()["error"]["type"] == "budget_unpriced"


def test_a_price_of_the_book_limits_the_answer_as_litellms_do(strict: Proxy) -> None:
    answer = Client(strict, 50_000).asks("out=600", model="house-priced", max_tokens=600)

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 50
    assert answer.json()["choices"][0]["finish_reason"] == "length"


class TestAfterRouting:
    def test_a_provider_whose_budget_is_spent_is_passed_over(self, strict: Proxy) -> None:
        client = Client(strict, 10**9)
        spent = self._of(client, "provider", "openai", 1)
        client.applies(spent)
        self._spends(client, "mini")
        served = [client.asks(model="either") for _ in range(6)]

        assert {answer.status_code for answer in served} == {200}
        assert {served_by(answer) for answer in served} == {"anthropic"}

    def test_a_model_whose_budget_is_spent_falls_back(self, strict: Proxy) -> None:
        client = Client(strict, 10**9)
        client.applies(self._of(client, "model", "openai/gpt-4o-mini", 1))
        self._spends(client, "mini")
        answer = client.asks(model="first-choice")

        assert answer.status_code == 200, answer.text
        assert served_by(answer) == "anthropic"

    @pytest.mark.parametrize("stream", [False, True])
    def test_only_when_no_provider_has_anything_left_is_it_refused(self, strict: Proxy, stream: bool) -> None:
        client = Client(strict, 10**9)
        client.applies(*(self._of(client, "provider", name, 1) for name in ("openai", "anthropic")))
        self._spends(client, "mini")
        self._spends(client, "claude")
        refused = client.asks(model="either", stream=stream)

        assert refused.status_code == 422, refused.text
        assert refused.json()["error"]["type"] == "budget_exceeded"
        assert f"Budget has been exceeded! User={client.name} Provider=" in refused.text
        assert refused.headers["x-spendmeter-budget"].startswith(client.name)
        until_held(strict, 0)

    def test_a_strict_budget_of_a_provider_holds_and_limits(self, strict: Proxy) -> None:
        client = Client(strict, 10**9)
        of = self._of(client, "provider", "openai", 200 * OUTPUT)
        client.applies(of.model_copy(update={"enforcement": Enforcement.STRICT}))
        answer = client.asks("out=500", model="mini")

        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        until_held(strict, 0)

    def _of(self, client: Client, dimension: str, value: str, limit_nanousd: int) -> Budget:
        return Budget.model_validate(
            {
                "id": f"{client.name}-{value}",
                "match": {"user": client.name, dimension: value},
                "limit_nanousd": limit_nanousd,
                "period": "lifetime",
                "updated_at": datetime.now(UTC),
            }
        )

    def _spends(self, client: Client, model: str) -> None:
        before = client.proxy.metric(RECORDED)
        answer = client.asks(model=model)
        assert answer.status_code == 200, answer.text
        until_recorded(client.proxy, before + 1)


@pytest.mark.parametrize(
    ("stream", "left"),
    # What a stream will have cost is not known when its headers are sent.
    [(False, "0.9999934"), (True, "1")],
)
def test_answers_tell_what_is_left(strict: Proxy, stream: bool, left: str) -> None:
    client = Client(strict, 10**9, period="month")
    headers = client.asks("in=4 out=10", stream=stream).headers

    assert headers["x-spendmeter-budget"] == client.budget.id
    assert headers["x-spendmeter-budget-remaining-usd"] == left
    assert headers["x-spendmeter-budget-limit-usd"] == "1"
    assert datetime.fromisoformat(headers["x-spendmeter-budget-resets-at"]) > datetime.now(UTC)
