"""A model that nobody has a price for, at a real proxy: refused where a budget says so, until it has one."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import TopicPartition

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.kafka.client import consumer
from spendmeter.settings import Settings
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import PRICE_BOOK, Proxy

ENTRIES = "spendmeter_price_book_entries"
EXPERIMENT = """
  - provider: openai
    model: house-experiment-*
    valid_from: 2026-01-01T00:00:00Z
    usd_per_million_tokens: {input: "0.30", output: "0.90"}
    usd_per: {request: "0.001"}
"""


def ask(proxy: Proxy, key: str, model: str, user: str) -> httpx.Response:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say something. [[in=1000 out=100]]"}],
        "user": user,
    }
    return httpx.post(
        f"{proxy.url}/v1/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {key}"},
        timeout=WITHIN_SECONDS,
    )


def put_prices(proxy: Proxy, written: str) -> None:
    """Change the book, and wait until it counts."""
    proxy.price_book.write_text(written)
    entries = written.count("valid_from")
    assert wait_until(lambda: proxy.metric(ENTRIES) == entries, timeout_seconds=WITHIN_SECONDS)


async def apply(proxy: Proxy, budget: Budget) -> None:
    async with connect(proxy.settings) as client:
        await client.apply([budget])


async def events_of(settings: Settings, user: str) -> list[UsageEvent]:
    reader = consumer(settings)
    await reader.start()
    try:
        name = settings.topic(Topic.USAGE)
        partitions = [TopicPartition(name, number) for number in range(settings.partitions)]
        reader.assign(partitions)
        ends: dict[TopicPartition, int] = await reader.end_offsets(partitions)
        found: list[UsageEvent] = []
        while any([await reader.position(tp) < ends[tp] for tp in partitions]):
            for records in (await reader.getmany(timeout_ms=500)).values():
                found += [decode(UsageEvent, r.value, r.headers) for r in records]
        return [event for event in found if event.end_user == user]
    finally:
        await reader.stop()


def recorded(proxy: Proxy, user: str, count: int) -> list[UsageEvent]:
    found: list[UsageEvent] = []

    def are_there() -> bool:
        found[:] = asyncio.run(events_of(proxy.settings, user))
        return len(found) >= count

    assert wait_until(are_there, timeout_seconds=WITHIN_SECONDS), found
    return found


def test_a_model_without_a_price_is_refused_once_that_is_known_and_served_once_it_has_one(
    proxy: Proxy,
) -> None:
    user = f"user-{uuid4().hex[:6]}"
    given: dict[str, Any] = {"match": {"end_user": user}, "period": "day", "updated_at": datetime.now(UTC)}
    asyncio.run(apply(proxy, Budget(id=f"priced-{user}", limit_nanousd=10**10, unpriced="block", **given)))
    # A key with a budget is answered once every budget is being enforced.
    key = proxy.key(key_alias=user, max_budget=9)["key"]
    # What other tests asked is forgotten with a change of prices.
    put_prices(proxy, PRICE_BOOK + EXPERIMENT)
    put_prices(proxy, PRICE_BOOK)

    assert ask(proxy, key, "unpriced-experiment", user).status_code == 200, "nothing is known of it yet"
    (unpriced,) = recorded(proxy, user, 1)
    assert unpriced.cost_source is CostSource.UNPRICED

    refused = ask(proxy, key, "unpriced-experiment", user)
    assert refused.status_code == 403, (refused.text, proxy.log.read_text()[-3000:])
    assert refused.json()["error"]["type"] == "budget_unpriced"
    assert refused.headers["x-spendmeter-budget"] == f"priced-{user}"
    assert "retry-after" not in refused.headers
    assert ask(proxy, key, "gpt-4o-mini", user).status_code == 200, "another model has a price"
    assert ask(proxy, key, "unpriced-experiment", "somebody-else").status_code == 200, "no budget forbids it"

    put_prices(proxy, PRICE_BOOK + EXPERIMENT)
    try:
        assert ask(proxy, key, "unpriced-experiment", user).status_code == 200, "it has a price now"
        priced = next(e for e in recorded(proxy, user, 3) if e.cost_source is CostSource.PRICEBOOK)
    finally:
        put_prices(proxy, PRICE_BOOK)
    assert priced.cost_nanousd == 1000 * 300 + 100 * 900 + 1_000_000
    assert priced.prices["input_token"] == "0.0000003"
    assert priced.prices["version"].startswith("pricebook ")
    assert priced.prices["version"].endswith(" from 2026-01-01T00:00:00.000000Z")
