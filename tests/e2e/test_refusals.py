"""What a refused client gets on each route of a real LiteLLM proxy."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy, running_proxy

RECORDED = "spendmeter_outbox_recorded_total"
MESSAGES = [{"role": "user", "content": "Say something. [[in=1000 out=100]]"}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": MESSAGES}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
GEMINI = "/v1beta/models/gemini-2.5-flash:"


class Route(NamedTuple):
    """One way to ask, and the shape that its clients read errors in."""

    path: str
    body: dict[str, Any]
    shape: str = "openai"
    files: dict[str, tuple[str, bytes]] | None = None


ROUTES = {
    "chat": Route("/v1/chat/completions", CHAT),
    "chat, streamed": Route("/v1/chat/completions", CHAT | {"stream": True}),
    "completions": Route("/v1/completions", {"model": "gpt-4o-mini", "prompt": "x"}),
    "embeddings": Route("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}),
    "responses": Route("/v1/responses", {"model": "gpt-4o-mini", "input": "x"}),
    "rerank": Route("/v1/rerank", {"model": "rerank", "query": "q", "documents": ["a"]}),
    "images": Route("/v1/images/generations", {"model": "images", "prompt": "x"}),
    "image edits": Route(
        "/v1/images/edits", {"model": "images", "prompt": "x"}, files={"image": ("a.png", b"x")}
    ),
    "speech": Route("/v1/audio/speech", {"model": "speech", "input": "x", "voice": "alloy"}),
    "transcriptions": Route(
        "/v1/audio/transcriptions", {"model": "whisper"}, files={"file": ("a.mp3", b"x")}
    ),
    "batches": Route(
        "/v1/batches",
        {"input_file_id": "f", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "OpenAI pass-through": Route("/openai_passthrough/v1/chat/completions", CHAT),
    "messages": Route("/v1/messages", CLAUDE, "anthropic"),
    "messages, streamed": Route("/v1/messages", CLAUDE | {"stream": True}, "anthropic"),
    "Anthropic pass-through": Route("/anthropic/v1/messages", CLAUDE, "anthropic"),
    "generateContent": Route(f"{GEMINI}generateContent", CONTENTS, "google"),
    "streamGenerateContent": Route(f"{GEMINI}streamGenerateContent", CONTENTS, "google"),
    "Gemini pass-through": Route(f"/gemini{GEMINI}generateContent", CONTENTS, "google"),
    "Bedrock pass-through": Route("/bedrock/model/anthropic.claude-v2/converse", {"messages": []}, "aws"),
}


class Spent(NamedTuple):
    """A proxy, and somebody who may spend nothing there any more."""

    proxy: Proxy
    key: str
    user: str
    team: str
    budget: Budget


@pytest.fixture(scope="module")
def proxy(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = Path(__file__).parent
    provider_keys = {
        "OPENAI_API_KEY": "sk-none",
        "ANTHROPIC_API_KEY": "sk-none",
        "GEMINI_API_KEY": "sk-none",
    }
    with running_proxy(
        kafka,
        tmp_path_factory.mktemp("refusals"),
        "--config",
        str(folder / "refusals.yaml"),
        PYTHONPATH=str(folder),
        **provider_keys,
    ) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def spent(proxy: Proxy) -> Spent:
    """Under a spent budget of two dimensions, with a name that no header may hold as it is."""
    return spend(proxy, {"team": "*", "user": "*"})


def spend(proxy: Proxy, match: dict[Any, str], by: str = "chat") -> Spent:
    name = uuid4().hex[:6]
    user, team = f"größe-{name}", f"team-{name}"
    budget = Budget(
        id=f"spent-{name}",
        match={**match, "user": user},
        limit_nanousd=1,
        period="day",
        timezone="Europe/Berlin",
        updated_at=datetime.now(UTC),
    )
    asyncio.run(_apply(proxy, budget))
    # A key with a budget is answered once every budget is being enforced.
    key = proxy.key(key_alias=f"alias-{name}", user_id=user, team_id=team, max_budget=9)["key"]
    before = proxy.metric(RECORDED)
    spent = Spent(proxy, key, user, team, budget)
    first = ask(spent, ROUTES[by])
    assert first.status_code == 200, first.text
    assert wait_until(lambda: proxy.metric(RECORDED) > before, timeout_seconds=WITHIN_SECONDS)
    return spent


async def _apply(proxy: Proxy, budget: Budget) -> None:
    async with connect(proxy.settings) as client:
        await client.apply([budget])


def ask(spent: Spent, route: Route) -> httpx.Response:
    headers = {"Authorization": f"Bearer {spent.key}", "x-goog-api-key": spent.key, "origin": "http://page"}
    url = f"{spent.proxy.url}{route.path}"
    if route.files is not None:
        return httpx.post(url, data=route.body, files=route.files, headers=headers, timeout=WITHIN_SECONDS)
    return httpx.post(url, json=route.body, headers=headers, timeout=WITHIN_SECONDS)


@pytest.mark.parametrize("name", ROUTES)
def test_a_refusal_has_status_headers_and_shape_of_its_route(spent: Spent, name: str) -> None:
    route = ROUTES[name]
    answer = ask(spent, route)

    assert answer.status_code == 422, (answer.text, spent.proxy.log.read_text()[-3000:])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-spendmeter-budget"] == spent.budget.id
    assert answer.headers["x-spendmeter-account"].startswith(
        f"{spent.budget.id}|team={spent.team}&user=gr%C3"
    )
    assert answer.headers["x-spendmeter-budget-limit-usd"] == "0.000000001"
    assert 1 <= int(answer.headers["retry-after"]) <= 25 * 3600
    assert UUID(answer.headers["x-spendmeter-decision"]).version == 7
    body = answer.json()
    assert body["error"]["type"] == "budget_exceeded"
    message = body["error"]["message"]
    assert message.startswith(
        f"Budget has been exceeded! User={spent.user} Team={spent.team} Current cost: 0.00021,"
        f" Max budget: 0.000000001 (budget {spent.budget.id}, period day, until "
    )
    assert message.endswith(("T00:00:00+01:00)", "T00:00:00+02:00)")), "nothing is added to it"
    match route.shape:
        case "openai":
            assert body == {
                "error": {"message": message, "type": "budget_exceeded", "param": None, "code": "422"}
            }
        case "anthropic":
            assert body["type"] == "error"
        case "google":
            assert (body["error"]["code"], body["error"]["status"]) == (422, "RESOURCE_EXHAUSTED")
        case "aws":
            assert body["message"] == message
            assert answer.headers["x-amzn-errortype"] == "ServiceQuotaExceededException"


@pytest.mark.parametrize("name", ROUTES)
def test_litellms_own_headers_stay(spent: Spent, name: str) -> None:
    answer = ask(spent, ROUTES[name])

    assert answer.headers["access-control-allow-origin"]
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "chat"),
        ("openai", "chat, streamed"),
        ("openai", "completions"),
        ("openai", "responses"),
        ("openai", "embeddings"),
        ("openai", "images"),
        ("openai", "transcriptions"),
        ("anthropic", "messages"),
        ("anthropic", "messages, streamed"),
    ],
)
def test_after_routing_litellm_adds_no_sentence_of_its_own(proxy: Proxy, provider: str, name: str) -> None:
    """A budget on a provider is judged once the deployment is known."""
    routed = spend(proxy, {"provider": provider}, by="messages" if provider == "anthropic" else "chat")
    answer = ask(routed, ROUTES[name])

    assert answer.status_code == 422, answer.text
    assert answer.headers["x-spendmeter-budget"] == routed.budget.id
    assert answer.json()["error"]["type"] == "budget_exceeded"
    assert answer.json()["error"]["message"].endswith(":00)"), answer.text


def test_openais_client_reads_it_and_does_not_try_again(spent: Spent) -> None:
    client = openai.OpenAI(base_url=f"{spent.proxy.url}/v1", api_key=spent.key, max_retries=3)
    before = spent.proxy.metric("spendmeter_refused_total")
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.chat.completions.create(**CHAT)  # type: ignore[call-overload]

    assert refused.value.type == "budget_exceeded"
    assert spent.proxy.metric("spendmeter_refused_total") == before + 1


def test_health_checks_call_no_model_for_whoever_has_spent_its_budget(spent: Spent) -> None:
    def served() -> int:
        calls: int = httpx.get(f"{spent.proxy.upstream_url}/served", timeout=WITHIN_SECONDS).json()[
            "requests"
        ]
        return calls

    before = served()
    answer = httpx.get(
        f"{spent.proxy.url}/health",
        params={"model": "gpt-4o-mini"},
        headers={"Authorization": f"Bearer {spent.key}"},
        timeout=60,
    )

    assert answer.status_code in (200, 503), answer.text
    assert "Budget has been exceeded!" in answer.text
    assert served() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/batches/b1"),
        ("POST", "/v1/batches/b1/cancel"),
        ("GET", "/v1/files"),
        ("GET", "/v1/responses/r1"),
        ("DELETE", "/v1/responses/r1"),
        ("GET", "/v1/models"),
        ("POST", "/v1/moderations"),
        ("GET", "/openai_passthrough/v1/models"),
    ],
)
def test_what_was_paid_can_be_read_and_cancelled_under_a_spent_budget(
    spent: Spent, method: str, path: str
) -> None:
    """Whatever the provider answers, and here there is none, nobody is refused."""
    body = {"input": "x"} if path.endswith("moderations") else None
    before = spent.proxy.metric("spendmeter_refused_total")
    answer = httpx.request(
        method,
        f"{spent.proxy.url}{path}",
        json=body,
        headers={"Authorization": f"Bearer {spent.key}"},
        timeout=WITHIN_SECONDS,
    )

    assert "budget" not in answer.text, answer.text
    assert spent.proxy.metric("spendmeter_refused_total") == before


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_whose_every_price_is_zero_is_served_under_a_spent_budget(spent: Spent, stream: bool) -> None:
    answer = ask(spent, Route("/v1/chat/completions", CHAT | {"model": "free-local", "stream": stream}))

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"model": "free-but-for-pages"},
        {"model": "free-local,gpt-4o-mini"},
        {"model": "free-and-down"},
    ],
)
def test_what_is_free_leads_to_nothing_that_is_not(spent: Spent, body: dict[str, Any]) -> None:
    """Not by a list, the router's fallback or a price of another unit."""
    before = _served(spent.proxy)
    answer = ask(spent, Route("/v1/chat/completions", CHAT | body))

    assert "Budget has been exceeded!" in answer.text, answer.text
    assert "gpt-4o-mini" not in _served(spent.proxy)[len(before) :]


def _served(proxy: Proxy) -> list[str]:
    """The models of all calls that the upstream has served."""
    answer = httpx.get(f"{proxy.upstream_url}/served/calls", params={"since": 0}, timeout=WITHIN_SECONDS)
    return [str(call["model"]) for call in answer.json()["calls"]]


def test_nothing_failed_inside(proxy: Proxy) -> None:
    assert proxy.metric("spendmeter_internal_errors_total") == 0, proxy.log.read_text()[-4000:]
    assert proxy.metric("spendmeter_refused_total") > 0
