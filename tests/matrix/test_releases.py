"""What the callback promises, beside each release of LiteLLM: attached, metered, refused, cut off, raised."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from spendmeter_local.probes import wait_until
from tests.matrix.gateways import BESIDE, PRICES_NANOUSD, Gateway
from tests.matrix.table import STATUS
from tests.patience import WITHIN_SECONDS

ASK = "Say something. [[in=1000 out=100]]"
COST_OF_A_CHAT = 1000 * 150 + 100 * 600
LONG = "Say a lot. [[in=1000 out=400 chunks=400 chunk_delay_ms=25]]"
TEN_CENTS = 0.1

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": ASK}]}
MESSAGES = {"model": "claude-sonnet-4-5", "max_tokens": 1000, "messages": CHAT["messages"]}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat, streamed": ("/v1/chat/completions", CHAT | {"stream": True}),
    "messages": ("/v1/messages", MESSAGES),
    "messages, streamed": ("/v1/messages", MESSAGES | {"stream": True}),
    "responses": ("/v1/responses", {"model": "gpt-4o-mini", "input": ASK}),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ASK}),
}


def alias(gateway: Gateway, key: str) -> str:
    name: str = gateway.keys[key]["key_alias"]
    return name


def last_call(gateway: Gateway) -> int:
    calls = gateway.served()
    return calls[-1]["number"] if calls else 0


def billed_nanousd(calls: list[dict[str, Any]]) -> int:
    """What the model server's own count costs at the configured prices."""
    total = 0
    for call in calls:
        into, out = PRICES_NANOUSD[call["model"]]
        total += call["input_tokens"] * into + call["output_tokens"] * out
    return total


def events_of(gateway: Gateway, key: str, count: int = 1) -> list[dict[str, Any]]:
    """The key's events, once there are so many."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = gateway.events(alias(gateway, key))
        return len(found) >= count

    assert wait_until(there, timeout_seconds=WITHIN_SECONDS, every_seconds=0.2), gateway.log.read_text()[
        -4000:
    ]
    return found


def until_refused(gateway: Gateway, key: str, path: str, body: dict[str, Any]) -> httpx.Response:
    answers: list[httpx.Response] = []

    def refused() -> bool:
        answers[:] = [gateway.post(key, path, body)]
        return answers[0].status_code != 200

    assert wait_until(refused, timeout_seconds=WITHIN_SECONDS), gateway.log.read_text()[-4000:]
    return answers[0]


@pytest.mark.parametrize("route", ROUTES)
def test_the_owner_is_charged_what_the_upstream_served(gateway: Gateway, route: str) -> None:
    path, body = ROUTES[route]
    key, before = gateway.key(user_id="ann"), last_call(gateway)

    answer = gateway.post(key, path, body)

    assert answer.status_code == 200, answer.text
    (event,) = events_of(gateway, key)
    billed = billed_nanousd(gateway.served(before))
    assert billed > 0
    assert event["cost_nanousd"] == billed
    assert event["user"] == "ann"


def test_a_stream_that_did_not_ask_for_its_usage_is_not_given_it(gateway: Gateway) -> None:
    answer = gateway.post(gateway.key(), "/v1/chat/completions", CHAT | {"stream": True})

    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert chunks
    assert [chunk for chunk in chunks if chunk.get("usage")] == []
    assert all(chunk["choices"] for chunk in chunks)


def test_a_stream_that_asked_for_its_usage_is_given_it(gateway: Gateway) -> None:
    body = CHAT | {"stream": True, "stream_options": {"include_usage": True}}

    answer = gateway.post(gateway.key(), "/v1/chat/completions", body)

    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    (usage,) = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1000, 100)


def test_a_spent_key_is_refused_as_litellm_itself_would(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    key = gateway.key(max_budget=COST_OF_A_CHAT / 1e9)
    path, body = ROUTES["chat"]
    native = gateway.post("sk-spent-natively", path, body)

    refused = until_refused(gateway, key, path, body)

    assert refused.status_code == native.status_code, refused.text
    record_property(STATUS, refused.status_code)
    ours, theirs = refused.json()["error"], native.json()["error"]
    assert {**ours, "message": ""} == {**theirs, "message": ""}
    assert ours["message"].startswith("Budget has been exceeded!")
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["x-spendmeter-budget"]


def test_a_raised_budget_serves_again(gateway: Gateway) -> None:
    key = gateway.key(max_budget=COST_OF_A_CHAT / 1e9)
    path, body = ROUTES["chat"]
    until_refused(gateway, key, path, body)

    gateway.set(key, max_budget=TEN_CENTS)

    assert wait_until(
        lambda: gateway.post(key, path, body).status_code == 200, timeout_seconds=WITHIN_SECONDS
    ), gateway.log.read_text()[-4000:]


def test_a_stream_that_the_client_leaves_is_charged(gateway: Gateway) -> None:
    key = gateway.key()
    body = CHAT | {"stream": True, "messages": [{"role": "user", "content": LONG}]}
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.stream(
        "POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60
    ) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("data: {"))

    (event,) = events_of(gateway, key)

    assert 0 < event["cost_nanousd"] < 1000 * 150 + 400 * 600


def test_nothing_failed_inside(gateway: Gateway) -> None:
    assert gateway.metric("spendmeter_internal_errors_total") == 0, gateway.log.read_text()[-4000:]


@pytest.fixture(scope="session")
def alone(python: Path, wheel: Path) -> dict[str, Any]:
    """What alone.py prints, in the release's environment."""
    ended = subprocess.run(
        [str(python), str(Path(__file__).with_name("alone.py")), str(BESIDE / "litellm.yaml")],
        env={
            "PYTHONPATH": str(wheel),
            "PYTHONSAFEPATH": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS * 2,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_each_failed_attempt_is_announced(alone: dict[str, Any]) -> None:
    """By LiteLLM where it has the hook, else by us: first tries and retries, in their request's task."""
    assert alone["failures"] == [["acompletion", "bad", "outer"]] * 3


def test_what_ours_needs_is_met_by_what_litellm_has(alone: dict[str, Any]) -> None:
    """LiteLLM's libraries are as its own pins say: `pip install` of ours has nothing to change."""
    assert alone["needed"]
    assert alone["unmet"] == []


def test_the_file_beside_the_configuration_is_the_callback_itself(alone: dict[str, Any]) -> None:
    assert alone["is_the_callback"] is True
