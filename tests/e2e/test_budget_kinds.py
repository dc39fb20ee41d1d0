"""docs/budgets.md on the real proxy: each of LiteLLM's kinds, as it stands there, refuses at its limit."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from spendmeter.budgets.file import read_budgets
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy, running_proxy

PAGE = (Path(__file__).parents[2] / "docs/budgets.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"^### ([^\n]+)\n(?:(?!^#).)*?^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
)
VIP = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"
CONFIG = Path(__file__).with_name("kinds.yaml")
TOKEN_NANOUSD = from_usd("0.125")


@dataclass(frozen=True)
class Asker:
    """Who asks: what its key is made with, and what its requests say."""

    key: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """An example of the page, a subject of it, and somebody whom it leaves alone."""

    example: str
    budget: str
    subject: Asker
    other: Asker | None
    is_vip: bool = False
    """Whether the key that the example names is the subject's."""


def model(name: str) -> dict[str, Any]:
    return {"model": name}


PLAIN = Asker()
KINDS = [
    Kind("everything", "everything", PLAIN, None),
    Kind("key", "key-day", PLAIN, PLAIN),
    Kind("key", "key-day-vip", PLAIN, PLAIN, is_vip=True),
    Kind("several windows", "team-red-hour", Asker({"team_id": "red"}), Asker({"team_id": "blue"})),
    Kind("user", "user-month", Asker({"user_id": "ann"}), Asker({"user_id": "bob"})),
    Kind("team", "team-month", Asker({"team_id": "green"}), Asker({"team_id": "blue"})),
    Kind(
        "member",
        "member-week",
        Asker({"team_id": "red", "user_id": "cid"}),
        Asker({"team_id": "red", "user_id": "dan"}),
    ),
    Kind(
        "organization",
        "organization-year",
        Asker({"organization_id": "acme"}),
        Asker({"organization_id": "emca"}),
    ),
    Kind("project", "project-total", Asker({"project_id": "apollo"}), Asker({"project_id": "gemini"})),
    Kind("end user", "customer-day", Asker(body={"user": "c1"}), Asker(body={"user": "c2"})),
    Kind("tag", "tag-month", Asker({"metadata": {"tags": ["t1"]}}), Asker({"metadata": {"tags": ["t2"]}})),
    Kind("models by a glob", "gpt-4-month", Asker(body=model("gpt-4-house")), PLAIN),
    Kind("model of a key", "key-model-day", PLAIN, PLAIN),
    Kind("provider", "openai-day", Asker(body=model("openai-house")), PLAIN),
    Kind(
        "session",
        "session-total",
        Asker(body={"litellm_session_id": "s1"}),
        Asker(body={"litellm_session_id": "s2"}),
    ),
]


@pytest.fixture(scope="module")
def proxy(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    data = tmp_path_factory.mktemp("kinds")
    with running_proxy(kafka, data, "--config", str(CONFIG), SPENDMETER_ADOPT="off") as proxy:
        yield proxy


def in_force(proxy: Proxy) -> None:
    """Wait until every budget counts: a key with one is not answered before."""
    proxy.key(key_alias=f"sync-{uuid4().hex}", max_budget=1)


def apply(proxy: Proxy, budgets: list[Budget]) -> None:
    async def work() -> None:
        async with connect(proxy.settings) as client:
            await client.apply(budgets)

    asyncio.run(work())
    in_force(proxy)


def remove(proxy: Proxy, budgets: list[Budget]) -> None:
    async def work() -> None:
        async with connect(proxy.settings) as client:
            for budget in budgets:
                await client.remove(budget.id)

    asyncio.run(work())
    in_force(proxy)


def spend(proxy: Proxy, key: str, asker: Asker, tokens: int) -> httpx.Response:
    """Ask, and wait until what it cost is counted."""
    recorded = proxy.metric("spendmeter_outbox_recorded_total")
    asked = {
        "model": "house",
        **asker.body,
        "messages": [{"role": "user", "content": f"[[in={tokens} out=1]]"}],
    }
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{proxy.url}/v1/chat/completions", json=asked, headers=headers, timeout=60)
    if answer.status_code == 200:
        assert wait_until(
            lambda: proxy.metric("spendmeter_outbox_recorded_total") > recorded,
            timeout_seconds=WITHIN_SECONDS,
        )
    return answer


def key_of(proxy: Proxy, asker: Asker) -> dict[str, str]:
    return proxy.key(key_alias=uuid4().hex, **asker.key)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.budget)
def test_each_kind_serves_until_its_limit_and_refuses_by_its_name(proxy: Proxy, kind: Kind) -> None:
    made = key_of(proxy, kind.subject)
    written = EXAMPLES[kind.example].replace(VIP, made["token"] if kind.is_vip else VIP)
    budgets = read_budgets(written, kind.example, datetime.now(UTC))
    limit = next(budget.limit_nanousd for budget in budgets if budget.id == kind.budget)
    key, other = made["key"], key_of(proxy, kind.other or PLAIN)["key"]

    apply(proxy, budgets)
    try:
        below = spend(proxy, key, kind.subject, limit // TOKEN_NANOUSD - 1)
        last = spend(proxy, key, kind.subject, 1)
        refused = spend(proxy, key, kind.subject, 1)
        others = spend(proxy, other, kind.other or PLAIN, 1)
    finally:
        remove(proxy, budgets)
    afterwards = spend(proxy, key, kind.subject, 1)

    assert [below.status_code, last.status_code] == [200, 200], (below.text, last.text)
    assert refused.status_code == 422, refused.text
    assert refused.headers["x-spendmeter-budget"] == kind.budget
    assert refused.json()["error"]["type"] == "budget_exceeded"
    assert others.status_code == (422 if kind.other is None else 200), others.text
    assert afterwards.status_code == 200, "without the budget it is served"


def test_a_key_that_has_spent_on_one_model_may_ask_another(proxy: Proxy) -> None:
    budgets = read_budgets(EXAMPLES["model of a key"], "", datetime.now(UTC))
    key = key_of(proxy, PLAIN)["key"]

    apply(proxy, budgets)
    try:
        spend(proxy, key, PLAIN, 16)
        refused = spend(proxy, key, PLAIN, 1)
        served = spend(proxy, key, Asker(body=model("other-house")), 1)
    finally:
        remove(proxy, budgets)

    assert (refused.status_code, served.status_code) == (422, 200)


def test_every_example_of_the_page_is_tried_here() -> None:
    assert {kind.example for kind in KINDS} == set(EXAMPLES)
