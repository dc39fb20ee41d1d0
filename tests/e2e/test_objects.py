"""What a provider keeps and bills once, on the real proxy: one event, whoever reads it and how often."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import TopicPartition

from spendmeter.contract.records import decode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import consumer
from spendmeter.values.times import from_unix_us
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy, running_proxy
from .test_proxy import chat, post, wait_recorded

ASK = "Think. [[in=1000 out=100]]"
RECORDED = "spendmeter_outbox_recorded_total"
RESPONSE_NANOUSD = 3_500_000
LINE = {
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": ASK}]},
}
LINES = "\n".join(json.dumps({"custom_id": f"c{number}", **LINE}) for number in range(2))
SLOWLY_MS = 300
LINE_NANOUSD = 105_000
"""At half of gpt-4o-mini's price, which batches have."""


@pytest.fixture(scope="module")
def gateway(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    data = tmp_path_factory.mktemp("objects")
    folder = data / "config"
    folder.mkdir()
    (folder / "litellm.yaml").write_text(CONFIG)
    # Others' reads are to come first, except where nobody reads.
    arguments = ("--config", str(folder / "litellm.yaml"))
    with running_proxy(kafka, data, *arguments, SPENDMETER_FOLLOW_OBJECTS_SECONDS="2") as proxy:
        yield proxy


CONFIG = """
model_list:
  - model_name: smart
    litellm_params: &openai
      model: openai/gpt-4o
      api_base: os.environ/SPENDMETER_UPSTREAM_API_BASE
      api_key: sk-upstream
  - model_name: gpt-4o-mini
    litellm_params: {<<: *openai, model: openai/gpt-4o-mini}
  - model_name: film
    litellm_params: {<<: *openai, model: openai/sora-2}
files_settings:
  - custom_llm_provider: openai
    api_base: os.environ/SPENDMETER_UPSTREAM_API_BASE
    api_key: sk-upstream
general_settings:
  # Else nobody but a response's maker may read it.
  disable_responses_id_security: true
"""


class Person:
    """A key, and requests with it."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self.proxy, self.name = proxy, name
        self.key = proxy.key(key_alias=name, user_id=name, team_id=f"team-{name}")["key"]

    def get(self, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        return self._answer(httpx.get(f"{self.proxy.url}{path}", headers=headers, timeout=WITHIN_SECONDS))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._answer(post(self.proxy, self.key, path, body))

    def upload(self, lines: str, **headers: str) -> dict[str, Any]:
        return self._answer(
            httpx.post(
                f"{self.proxy.url}/v1/files",
                files={"file": ("lines.jsonl", lines)},
                data={"purpose": "batch"},
                headers={"Authorization": f"Bearer {self.key}", **headers},
                timeout=WITHIN_SECONDS,
            )
        )

    def _answer(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, (answer.text, self.proxy.log.read_text()[-3000:])
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def ann(gateway: Proxy) -> Person:
    return Person(gateway, "ann")


@pytest.fixture(scope="module")
def bob(gateway: Proxy) -> Person:
    return Person(gateway, "bob")


def events_of(proxy: Proxy, before: int) -> list[UsageEvent]:
    """All events after so many, once a request that was made just now, and logged last, is among them."""
    end = Person(proxy, f"end-{uuid4().hex[:6]}")
    end.post("/v1/chat/completions", chat("end"))
    wait_recorded(proxy, before, events=2)
    return [event for event in asyncio.run(_events(proxy, end.name))[before:] if event.key_alias != end.name]


async def _events(proxy: Proxy, last: str) -> list[UsageEvent]:
    """In the order of their recording, up to the last of that alias."""
    topic = proxy.settings.topic(Topic.USAGE)
    found: list[UsageEvent] = []
    async with asyncio.timeout(WITHIN_SECONDS):
        reader = consumer(proxy.settings)
        await reader.start()
        try:
            reader.assign([TopicPartition(topic, number) for number in range(2)])
            await reader.seek_to_beginning()
            wanted = int(proxy.metric(RECORDED))
            while len(found) < wanted:
                for records in (await reader.getmany(timeout_ms=500)).values():
                    found += [
                        decode_usage(r.value, r.headers, from_unix_us(r.timestamp * 1000)) for r in records
                    ]
        finally:
            await reader.stop()
    assert any(event.key_alias == last for event in found)
    return sorted(found, key=lambda event: event.seq)


@pytest.fixture
def before(gateway: Proxy) -> int:
    return int(gateway.metric(RECORDED))


def test_a_background_response_is_billed_once_to_its_maker(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    made = ann.post(
        "/v1/responses", {"model": "smart", "input": ASK, "background": True, "metadata": {"reads": "1"}}
    )
    assert made["status"] == "queued"
    states = [reader.get(f"/v1/responses/{made['id']}")["status"] for reader in (bob, bob, ann, bob, ann)]
    assert states == ["queued", "completed", "completed", "completed", "completed"]

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.user, event.team) == (
        RESPONSE_NANOUSD,
        "ann",
        "ann",
        "team-ann",
    )
    assert (event.model_group, event.reason) == ("smart", "")
    assert event.object_id == f"openai/{event.response_id}"
    assert event.response_id.startswith("resp_1"), "the provider's own id"


def test_a_background_stream_and_its_reads_are_one_event(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/responses",
        json={"model": "smart", "input": ASK, "background": True, "stream": True},
        headers={"Authorization": f"Bearer {ann.key}"},
        timeout=WITHIN_SECONDS,
    ) as answer:
        told = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    response_id = told[-1]["response"]["id"]
    for reader in (ann, bob, ann):
        assert reader.get(f"/v1/responses/{response_id}")["status"] == "completed"

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.model_group) == (RESPONSE_NANOUSD, "ann", "smart")
    assert event.object_id


def test_a_background_stream_that_is_left_is_billed_by_its_next_read(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    """The provider goes on with it, whoever listens."""
    asked = f"Think. [[in=1000 out=100 chunks=8 chunk_delay_ms={SLOWLY_MS}]]"
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/responses",
        json={"model": "smart", "input": asked, "background": True, "stream": True},
        headers={"Authorization": f"Bearer {ann.key}"},
        timeout=WITHIN_SECONDS,
    ) as answer:
        told = next(json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {"))
    response_id = told["response"]["id"]
    for reader in (bob, ann):
        assert reader.get(f"/v1/responses/{response_id}")["status"] == "completed"

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.estimated) == (RESPONSE_NANOUSD, False)
    assert (event.key_alias, event.model_group) == ("ann", "smart")


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_response_that_nobody_reads_is_billed_all_the_same(
    gateway: Proxy, ann: Person, before: int, stream: bool
) -> None:
    asked: dict[str, Any] = {"model": "smart", "background": True, "metadata": {"reads": "1"}}
    if stream:
        asked |= {"input": f"Think. [[in=1000 out=100 chunks=8 chunk_delay_ms={SLOWLY_MS}]]", "stream": True}
        url, key = f"{gateway.url}/v1/responses", {"Authorization": f"Bearer {ann.key}"}
        with httpx.stream("POST", url, json=asked, headers=key, timeout=WITHIN_SECONDS) as answer:
            next(line for line in answer.iter_lines() if line.startswith("data: {"))
    else:
        ann.post("/v1/responses", {**asked, "input": ASK})
    wait_recorded(gateway, before, events=1)

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.model_group) == (RESPONSE_NANOUSD, "ann", "smart")
    assert event.object_id


def test_a_response_that_is_cancelled_is_billed_once(gateway: Proxy, ann: Person, before: int) -> None:
    made = ann.post("/v1/responses", {"model": "smart", "input": ASK, "background": True})
    assert ann.post(f"/v1/responses/{made['id']}/cancel", {})["status"] == "cancelled"
    assert ann.get(f"/v1/responses/{made['id']}")["status"] == "cancelled"

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.model_group) == (RESPONSE_NANOUSD, "smart")


def test_a_response_that_is_not_in_the_background_is_billed_where_it_was_made(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    made = ann.post("/v1/responses", {"model": "smart", "input": ASK})
    for reader in (ann, bob):
        reader.get(f"/v1/responses/{made['id']}")

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.object_id) == (RESPONSE_NANOUSD, "ann", "")


@pytest.mark.parametrize("by_model", [False, True])
@pytest.mark.parametrize(
    ("ends", "lines"), [("completed", 2), ("cancelled", 1), ("failed", 1), ("expired", 1)]
)
def test_a_batch_is_billed_once_to_its_maker(
    gateway: Proxy, ann: Person, bob: Person, before: int, by_model: bool, ends: str, lines: int
) -> None:
    """Also one that ended early with a part of its output. Its id then names the model, or does not."""
    file = ann.upload(LINES, **({"x-litellm-model": "gpt-4o-mini"} if by_model else {}))
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    metadata = {"reads": "1", "ends": ends}
    made = ann.post("/v1/batches", asked | {"metadata": metadata})
    states = [reader.get(f"/v1/batches/{made['id']}")["status"] for reader in (ann, bob, ann, bob)]
    assert states == ["validating", ends, ends, ends]

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias) == (lines * LINE_NANOUSD, "ann")
    assert (event.model, event.model_group) == ("gpt-4o-mini", "gpt-4o-mini")
    assert event.object_id == f"openai/{event.response_id}"
    assert event.response_id.startswith("batch_1"), "the provider's own id"


def test_a_video_is_billed_once_when_it_is_asked_for(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    made = ann.post("/v1/videos", {"model": "film", "prompt": "a cat", "seconds": "4"})
    for reader in (ann, bob):
        assert reader.get(f"/v1/videos/{made['id']}")["status"] == "completed"

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.model_group) == (400_000_000, "ann", "film")
    assert event.object_id == f"openai/{event.response_id}"


def test_who_reads_what_was_made_past_us_is_charged_for_it_once(
    gateway: Proxy, ann: Person, bob: Person, before: int
) -> None:
    asked = {"model": "gpt-4o-mini", "input": ASK, "background": True}
    made = httpx.post(f"{gateway.upstream_url}/v1/responses", json=asked, timeout=WITHIN_SECONDS).json()
    # A read without a deployment goes to the provider's default; this id names one of ours.
    wrapped = ann.post("/v1/responses", {"model": "smart", "input": ASK, "background": True})
    batch_file = httpx.post(
        f"{gateway.upstream_url}/v1/files",
        files={"file": ("lines.jsonl", LINES)},
        data={"purpose": "batch"},
        timeout=WITHIN_SECONDS,
    ).json()
    batch = httpx.post(
        f"{gateway.upstream_url}/v1/batches",
        json={"input_file_id": batch_file["id"], "endpoint": "/v1/chat/completions"},
        timeout=WITHIN_SECONDS,
    ).json()
    assert made["id"] != wrapped["id"]
    for reader in (bob, ann, bob):
        assert reader.get(f"/v1/batches/{batch['id']}")["status"] == "completed"

    (event,) = events_of(gateway, before)

    assert (event.cost_nanousd, event.key_alias, event.reason) == (2 * LINE_NANOUSD, "bob", "creator unknown")
    assert (event.model, event.model_group) == ("gpt-4o-mini", "gpt-4o-mini")


def test_nothing_failed_inside(gateway: Proxy) -> None:
    assert gateway.metric("spendmeter_internal_errors_total") == 0, gateway.log.read_text()[-4000:]
