"""Counted twice, or not at all."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiokafka import TopicPartition

from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import consumer
from tests.regression.litellm.person import Person
from tests.regression.litellm.stack import ASK_COSTS, Stack


@pytest.mark.parametrize("stream", [False, True])
def test_15740_a_response_is_one_event(stack: Stack, stream: bool) -> None:
    """Used to: /v1/responses was logged twice, each time at full cost."""
    person = Person(stack)
    for _ in range(3):
        assert person.asks(path="/v1/responses", stream=stream).status_code == 200

    assert person.settles() == 3 * ASK_COSTS
    person.until_history(3, 3 * ASK_COSTS)
    # An event of another route comes after any second one of these.
    assert person.asks().status_code == 200
    person.until_history(4, 4 * ASK_COSTS)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(
            "/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}, id="5118"
        ),
        pytest.param("/v1/messages", {}, id="31121"),
        pytest.param("/v1/messages", {"stream": True}, id="31121, streamed"),
    ],
)
def test_5118_and_31121_one_answer_is_one_event(stack: Stack, path: str, body: dict[str, Any]) -> None:
    """Used to: streams that tell their usage, and /v1/messages, were logged twice."""
    person = Person(stack)
    for _ in range(2):
        assert person.asks(path=path, **body).status_code == 200
    paid = person.settles()
    person.until_history(2, paid)
    # An event of another route comes after any second one of these.
    assert person.asks().status_code == 200
    person.until_history(3, paid + ASK_COSTS)


def test_17814_and_25015_reading_a_response_again_is_free(stack: Stack) -> None:
    """Used to: each GET of /v1/responses/{id} billed the whole response again, under another id."""
    person = Person(stack)
    made = person.asks(path="/v1/responses")
    assert made.status_code == 200, made.text
    for _ in range(3):
        read = stack.http.get(
            f"{stack.first.url}/v1/responses/{made.json()['id']}",
            headers={"Authorization": f"Bearer {person.key}"},
        )
        assert read.status_code == 200, read.text
        assert read.json()["usage"]["output_tokens"] == 100
    assert person.asks().status_code == 200

    assert person.settles() == 2 * ASK_COSTS
    person.until_history(2, 2 * ASK_COSTS)


@pytest.mark.parametrize("stream", [False, True])
def test_36426_a_chat_served_over_the_responses_route_is_recorded(stack: Stack, stream: bool) -> None:
    """Used to: where chat went over /v1/responses, the answer came and its row did not."""
    person = Person(stack)
    answer = person.asks(model="bridged", stream=stream)
    assert answer.status_code == 200, answer.text
    assert [call["path"] for call in stack.upstream.calls(person.since)] == ["/v1/responses"]

    assert person.settles() == ASK_COSTS
    person.until_history(1, ASK_COSTS)


def test_13280_6895_and_27989_what_many_spend_at_once_is_all_there(stack: Stack) -> None:
    """Used to: rows were missing against the provider's bill; deadlocks dropped updates."""
    person = Person(stack, proxies=stack.proxies)
    paths = ["/v1/chat/completions", "/v1/responses", "/v1/messages"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda n: person.asks(
                    f"in={50 + n} out={10 + n}", at=stack.proxies[n % 2], path=paths[n % 3], stream=n % 4 == 0
                ),
                range(48),
            )
        )

    assert {answer.status_code for answer in answers} == {200}
    person.until_history(48, person.settles())


def test_2222_every_request_is_a_record_on_kafka(stack: Stack) -> None:
    """Used to: there was no way to have spend on Kafka but to write one's own callback."""
    person = Person(stack)
    assert person.asks("in=120 out=40 cached=20").status_code == 200
    person.until_history(1, 100 * 150 + 20 * 75 + 40 * 600)
    (event,) = [one for one in asyncio.run(_usage(stack)) if one.key == person.hash]

    assert (event.input_tokens, event.cache_read_tokens, event.output_tokens) == (120, 20, 40)
    assert event.cost_nanousd == 100 * 150 + 20 * 75 + 40 * 600
    assert event.prices


async def _usage(stack: Stack) -> list[UsageEvent]:
    reader = consumer(stack.settings)
    await reader.start()
    try:
        name = stack.settings.topic(Topic.USAGE)
        partitions = [TopicPartition(name, number) for number in range(stack.settings.partitions)]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        await reader.seek_to_beginning()
        events = []
        while any([await reader.position(one) < ends[one] for one in partitions]):
            for records in (await reader.getmany(timeout_ms=500)).values():
                events += [decode(UsageEvent, record.value, record.headers) for record in records]
        return events
    finally:
        await reader.stop()
