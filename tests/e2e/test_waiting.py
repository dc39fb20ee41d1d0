"""Waiting on the real proxy: a raise and a new window let in who waits, and nothing else is waited for."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from spendmeter.client import connect, when_budget_allows
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.retry import BudgetChanges, RetryPolicy, Waiting
from spendmeter.retry.http import AsyncWaitingTransport, WaitingTransport
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy

COST = 210_000
PAGE = Path(__file__).parents[2] / "docs" / "waiting.md"
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi [[in=1000 out=100]]"}],
}


class Spent:
    """A user whose budget is spent: one request has been served, the next is refused."""

    def __init__(self, proxy: Proxy, period: str = "lifetime", starts_at: datetime | None = None) -> None:
        self.proxy, name = proxy, f"w-{uuid4().hex[:8]}"
        self.budget = Budget(
            id=name,
            match={"user": name},
            limit_nanousd=NanoUsd(1),
            period=period,
            starts_at=starts_at,
            updated_at=datetime.now(UTC),
        )
        asyncio.run(self._change(None))
        # A key with a budget is answered once every budget is being enforced.
        self.key = proxy.key(key_alias=f"k-{name}", user_id=name, max_budget=9)["key"]
        assert self.asks().status_code == 200
        assert self._refused_in_the_end()

    def raises(self) -> None:
        asyncio.run(self._change(NanoUsd(10**12)))

    async def _change(self, limit: NanoUsd | None) -> None:
        async with connect(self.proxy.settings) as client:
            if limit is None:
                await client.apply([self.budget])
            else:
                await client.set_limit(self.budget.id, limit)

    def asks(self, transport: httpx.BaseTransport | None = None) -> httpx.Response:
        with httpx.Client(transport=transport or httpx.HTTPTransport(), timeout=WITHIN_SECONDS) as client:
            return client.post(
                f"{self.proxy.url}/v1/chat/completions",
                json=CHAT,
                headers={"Authorization": f"Bearer {self.key}"},
            )

    def _refused_in_the_end(self) -> bool:
        """LiteLLM records a request a moment after it has answered it."""
        begun = datetime.now(UTC)
        while datetime.now(UTC) - begun < timedelta(seconds=WITHIN_SECONDS):
            if self.asks().status_code == 422:
                return True
        return False


def test_who_waits_over_http_is_served_after_a_raise(proxy: Proxy) -> None:
    spent, told = Spent(proxy), list[Waiting]()

    def raise_it(waiting: Waiting) -> None:
        if not told:
            spent.raises()
        told.append(waiting)

    transport = WaitingTransport(RetryPolicy(poll_seconds=0.2), on_wait=raise_it)
    assert spent.asks(transport).status_code == 200
    assert told[0].budget == spent.budget.id
    assert told[0].reopens_at is None, "a lifetime never ends"
    assert told[0].spent_usd is not None
    assert told[0].limit_usd is not None
    assert told[0].spent_usd >= told[0].limit_usd


async def test_who_follows_changes_is_served_by_the_raise_and_by_nothing_else(proxy: Proxy) -> None:
    spent = await asyncio.to_thread(Spent, proxy)
    client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=spent.key, max_retries=0)
    policy = RetryPolicy(poll_seconds=None, max_wait_seconds=WITHIN_SECONDS)

    async def on_wait(waiting: Waiting) -> None:
        if waiting.attempt == 1:
            await asyncio.to_thread(spent.raises)

    async def ask() -> int:
        parts = 0
        async for _ in await client.chat.completions.create(**CHAT, stream=True):
            parts += 1
        return parts

    async with BudgetChanges(proxy.settings) as changes, client:
        assert await when_budget_allows(ask, policy, on_wait=on_wait, changes=changes) > 1


def test_who_waits_is_served_in_the_next_window(proxy: Proxy) -> None:
    """Windows of 10 s, of which the first began just now; only the header tells when it ends."""
    spent, told = Spent(proxy, "PT10S", datetime.now(UTC)), list[Waiting]()
    transport = WaitingTransport(RetryPolicy(poll_seconds=None), on_wait=told.append)
    for _ in range(20):
        assert spent.asks(transport).status_code == 200
        if told:
            break
    assert told, "one of them was refused first"
    assert all(one.wait_seconds <= 10 for one in told)


def test_waiting_is_bounded_and_then_the_refusal_is_the_answer(proxy: Proxy) -> None:
    spent, told = Spent(proxy), list[Waiting]()
    policy = RetryPolicy(poll_seconds=0.1, max_attempts=3)
    answer = spent.asks(WaitingTransport(policy, on_wait=told.append))
    assert (answer.status_code, len(told)) == (422, 2)
    assert answer.json()["error"]["type"] == "budget_exceeded"


async def test_what_is_no_refusal_of_a_budget_passes_at_once(proxy: Proxy) -> None:
    told = list[Waiting]()
    transport = AsyncWaitingTransport(on_wait=told.append)
    async with httpx.AsyncClient(transport=transport, timeout=WITHIN_SECONDS) as http:
        client = openai.AsyncOpenAI(
            base_url=f"{proxy.url}/v1", api_key="sk-nobody", http_client=http, max_retries=0
        )
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(**CHAT)
        client = client.with_options(api_key=proxy.master_key)
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(**CHAT | {"model": "no-such-model"})
    assert told == []


def test_the_examples_of_the_page_run(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand; where they leave the address to the environment, it is this proxy's."""
    spent = Spent(proxy)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{proxy.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", spent.key)
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", proxy.settings.kafka_bootstrap)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", proxy.settings.topic_prefix)
    page: dict[str, Any] = {}
    for name in ("openai", "changes"):
        exec(example(name), page)
    said: list[str] = []

    def told(text: str) -> None:
        spent.raises()
        said.append(text)

    page["print"] = told
    example_policy = RetryPolicy(max_wait_seconds=WITHIN_SECONDS, poll_seconds=0.5)
    transport = page["WaitingTransport"](example_policy, on_wait=page["show_wait"])
    with page["client"], httpx.Client(transport=transport) as http:
        client = page["client"].with_options(http_client=http)
        assert client.chat.completions.create(**CHAT).choices
        assert said
        assert spent.budget.id in said[0]

        async def ask(client: openai.OpenAI, text: str) -> Any:
            return await asyncio.to_thread(lambda: client.chat.completions.create(**CHAT))

        page["ask"] = ask
        assert asyncio.run(page["summarise"](client, "text")).choices


def example(name: str) -> str:
    """The code block of the page that bears this name."""
    page = PAGE.read_text(encoding="utf-8")
    return page.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]
