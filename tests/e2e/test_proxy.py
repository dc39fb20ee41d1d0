"""A real LiteLLM proxy with the callback, asked through the OpenAI client and plain HTTP."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy

RECORDED = "spendmeter_outbox_recorded_total"
ASK = "Say something. [[in=1000 out=100]]"


class Route(NamedTuple):
    """One way to ask, and what that costs at the most."""

    path: str
    body: Callable[[str], dict[str, Any]]


ROUTES = {
    "chat": Route("/v1/chat/completions", lambda user: chat(user)),
    "chat, streamed": Route("/v1/chat/completions", lambda user: chat(user) | {"stream": True}),
    "messages": Route("/v1/messages", lambda user: messages(user)),
    "messages, streamed": Route("/v1/messages", lambda user: messages(user) | {"stream": True}),
    "responses": Route("/v1/responses", lambda user: {"model": "gpt-4o-mini", "input": ASK, "user": user}),
    "embeddings": Route(
        "/v1/embeddings", lambda user: {"model": "text-embedding-3-small", "input": ASK, "user": user}
    ),
}


def chat(end_user: str) -> dict[str, Any]:
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": ASK}],
        "user": end_user,
    }


def messages(end_user: str) -> dict[str, Any]:
    content = [{"role": "user", "content": ASK}]
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 1000,
        "messages": content,
        "metadata": {"user_id": end_user},
    }


def post(proxy: Proxy, key: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(
        f"{proxy.url}{path}",
        json=body,
        headers={"Authorization": f"Bearer {key}", **headers},
        timeout=WITHIN_SECONDS,
    )


def wait_recorded(proxy: Proxy, before: float, events: int = 1) -> None:
    assert wait_until(lambda: proxy.metric(RECORDED) >= before + events, timeout_seconds=WITHIN_SECONDS), (
        proxy.log.read_text()[-4000:]
    )


def spend_until_refused(proxy: Proxy, ask: Callable[[], object]) -> openai.APIStatusError:
    """Ask, each time after the last answer was recorded, until the answer is a refusal."""
    for _ in range(20):
        before = proxy.metric(RECORDED)
        try:
            ask()
        except openai.APIStatusError as error:
            return error
        wait_recorded(proxy, before)
    raise AssertionError("never refused")


@pytest.fixture
def client(proxy: Proxy) -> openai.OpenAI:
    """Of a key with $0.001: one request costs $0.00021."""
    key = proxy.key(key_alias=f"alias-{uuid4().hex[:6]}", max_budget=0.001)
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key["key"], max_retries=2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_is_served_up_to_its_budget_and_then_refused_in_litellms_own_words(
    proxy: Proxy, client: openai.OpenAI, stream: bool
) -> None:
    served = 0

    def ask() -> None:
        nonlocal served
        answer = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": ASK}], stream=stream
        )
        if stream:
            assert list(answer)
        served += 1

    refused = spend_until_refused(proxy, ask)

    assert served == 5, "1000 tokens in and 100 out of gpt-4o-mini are $0.00021"
    assert refused.status_code == 422
    assert refused.body == {
        "message": refused.body["message"],  # type: ignore[index]
        "type": "budget_exceeded",
        "param": None,
        "code": "422",
    }
    assert "Budget has been exceeded! Key=alias-" in str(refused)
    assert "Current cost: 0.00105, Max budget: 0.001" in str(refused)
    headers = refused.response.headers
    assert headers["x-should-retry"] == "false"
    assert headers["x-spendmeter-budget"]
    assert UUID(headers["x-spendmeter-decision"]).version == 7
    assert "retry-after" not in headers, "a key's budget without a duration never begins anew"
    assert headers["x-spendmeter-decision"] in proxy.log.read_text()


@pytest.mark.parametrize("route", ROUTES)
def test_admission_and_event_name_the_same_account(proxy: Proxy, route: str) -> None:
    """A budget over every dimension: its second request is refused only if both name them alike."""
    path, body = ROUTES[route]
    tag, user = f"tag-{uuid4().hex[:6]}", f"user-{uuid4().hex[:6]}"
    of_all = Budget(
        id=f"all-{user}",
        match={
            "key": "*",
            "user": user,
            "team": "*",
            "organization": "*",
            "tag": "*",
            "model_group": "*",
            "gateway": "*",
            "end_user": "*",
            "session": "*",
        },
        limit_nanousd=1,
        period="day",
        updated_at=datetime.now(UTC),
    )
    asyncio.run(_apply(proxy, of_all))
    # A key with a budget is answered once every budget is being enforced.
    key = proxy.key(
        key_alias=user,
        user_id=user,
        team_id="team",
        organization_id="org",
        metadata={"tags": [tag]},
        max_budget=9,
    )["key"]
    before = proxy.metric(RECORDED)
    session = {"x-litellm-session-id": "session-1"}
    first = post(proxy, key, path, body("end-user"), **session)
    assert first.status_code == 200, first.text
    wait_recorded(proxy, before)

    second = post(proxy, key, path, body("end-user"), **session)
    assert second.status_code == 422, (second.text, proxy.log.read_text()[-3000:])
    assert second.headers["x-spendmeter-budget"] == of_all.id
    assert int(second.headers["retry-after"]) >= 1
    assert "Budget has been exceeded!" in second.text


async def _apply(proxy: Proxy, budget: Budget) -> None:
    async with connect(proxy.settings) as client:
        await client.apply([budget])


def test_a_client_cannot_switch_the_meter_off_or_name_its_own_events(
    proxy: Proxy, client: openai.OpenAI
) -> None:
    before = proxy.metric(RECORDED)
    forged = "01890000-0000-7000-8000-000000000000"
    body = chat("u") | {"no-log": True, "metadata": {"spendmeter_event_id": forged}}
    for _ in range(2):
        answer = post(proxy, client.api_key, "/v1/chat/completions", body, **{"x-litellm-call-id": "forged"})
        assert answer.status_code == 200

    wait_recorded(proxy, before, events=2)


def test_a_refusal_is_not_an_event(proxy: Proxy, client: openai.OpenAI) -> None:
    spend_until_refused(proxy, lambda: client.chat.completions.create(**_chat()))
    before = proxy.metric(RECORDED)
    for _ in range(3):
        with pytest.raises(openai.APIStatusError):
            client.chat.completions.create(**_chat())
    other = proxy.key(key_alias=f"other-{uuid4().hex[:6]}")["key"]
    assert post(proxy, other, "/v1/chat/completions", chat("u")).status_code == 200
    wait_recorded(proxy, before)

    assert proxy.metric(RECORDED) == before + 1


def test_a_model_without_a_price_is_flagged(proxy: Proxy) -> None:
    key = proxy.key(key_alias=f"unpriced-{uuid4().hex[:6]}")["key"]
    before = proxy.metric("spendmeter_unpriced_total")
    answer = post(proxy, key, "/v1/chat/completions", chat("u") | {"model": "unpriced-experiment"})
    assert answer.status_code == 200

    assert wait_until(
        lambda: proxy.metric("spendmeter_unpriced_total") == before + 1, timeout_seconds=WITHIN_SECONDS
    )


def test_nothing_failed_inside(proxy: Proxy) -> None:
    assert proxy.metric("spendmeter_internal_errors_total") == 0, proxy.log.read_text()[-4000:]


def _chat() -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": ASK}]}
