"""Budgets in the metadata of a key: made at the place where keys are made, in force from then on."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx

from spendmeter.client import NoSuchBudget, connect
from spendmeter.contract.budget import Budget
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy


def ask(proxy: Proxy, key: str, model: str = "gpt-4o-mini") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi. [[in=1000 out=100]]"}]}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{proxy.url}/v1/chat/completions", json=body, headers=headers, timeout=WITHIN_SECONDS)


def made(proxy: Proxy, wanted: Any, **given: Any) -> dict[str, str]:
    return proxy.key(key_alias=f"alias-{uuid4().hex[:8]}", metadata={"spendmeter_budget": wanted}, **given)


def budget_of(proxy: Proxy, budget_id: str) -> Budget | None:
    async def look() -> Budget | None:
        async with connect(proxy.settings) as client:
            try:
                return await client.get(budget_id)
            except NoSuchBudget:
                return None

    return asyncio.run(look())


def stored(proxy: Proxy, budget_id: str) -> Budget:
    found: list[Budget | None] = []

    def look() -> bool:
        found[:] = [budget_of(proxy, budget_id)]
        return found[0] is not None

    assert wait_until(look, timeout_seconds=WITHIN_SECONDS), proxy.log.read_text()[-3000:]
    assert found[0] is not None
    return found[0]


def until_refused(proxy: Proxy, key: str, model: str = "gpt-4o-mini") -> httpx.Response:
    answers: list[httpx.Response] = []

    def look() -> bool:
        answers[:] = [ask(proxy, key, model)]
        return answers[0].status_code != 200

    assert wait_until(look, timeout_seconds=WITHIN_SECONDS), proxy.log.read_text()[-3000:]
    return answers[0]


def test_a_budget_in_a_keys_metadata_refuses_at_its_limit(proxy: Proxy) -> None:
    key, other = made(proxy, {"limit_usd": "0.0002", "period": "day"}), made(proxy, None)

    assert ask(proxy, key["key"]).status_code == 200, "nothing is spent yet"
    refused = until_refused(proxy, key["key"])

    assert refused.status_code == 422, refused.text
    assert refused.headers["x-spendmeter-budget"] == f"litellm:key:{key['token']}:metadata"
    assert ask(proxy, other["key"]).status_code == 200
    found = stored(proxy, f"litellm:key:{key['token']}:metadata")
    assert (found.match, found.period, found.updated_by) == ({"key": key["token"]}, "day", "LiteLLM")


def test_a_key_may_have_a_budget_for_each_of_its_models(proxy: Proxy) -> None:
    wanted = {"limit_usd": 0.0002, "period": "month", "match": {"model_group": "*"}}
    key = made(proxy, wanted)["key"]

    until_refused(proxy, key)

    assert ask(proxy, key, "gpt-4o").status_code == 200


def test_a_change_in_litellm_is_a_change_here_and_what_is_gone_there_is_gone_here(proxy: Proxy) -> None:
    key = made(proxy, {"limit_usd": "0.0002", "period": "day"})
    until_refused(proxy, key["key"])

    update(proxy, key, {"limit_usd": "5", "period": "day"})
    assert wait_until(lambda: ask(proxy, key["key"]).status_code == 200, timeout_seconds=WITHIN_SECONDS)

    update(proxy, key, None)
    ask(proxy, key["key"])
    budget_id = f"litellm:key:{key['token']}:metadata"
    assert wait_until(lambda: budget_of(proxy, budget_id) is None, timeout_seconds=WITHIN_SECONDS)


def update(proxy: Proxy, key: dict[str, str], wanted: Any) -> None:
    answer = httpx.post(
        f"{proxy.url}/key/update",
        json={"key": key["key"], "metadata": {"spendmeter_budget": wanted}},
        headers={"Authorization": f"Bearer {proxy.master_key}"},
        timeout=WITHIN_SECONDS,
    )
    assert answer.status_code == 200, answer.text


def test_a_mistake_is_told_with_key_and_fix_counted_and_served(proxy: Proxy) -> None:
    before = proxy.metric("spendmeter_adoption_problems_total")
    key = made(proxy, {"limit_usd": "-1", "period": "fortnight"})

    assert ask(proxy, key["key"]).status_code == 200

    problems = "spendmeter_adoption_problems_total"
    assert wait_until(lambda: proxy.metric(problems) == before + 1, timeout_seconds=WITHIN_SECONDS)
    (line,) = [line for line in proxy.log.read_text().splitlines() if key["key_alias"] in line]
    assert f"key {key['key_alias']} ({key['token']}): metadata.spendmeter_budget:" in line
    assert "-1 USD is not above 0" in line
    assert "P14D" in line
    assert ask(proxy, key["key"]).status_code == 200
