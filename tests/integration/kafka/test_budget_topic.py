"""spend.budgets as a book, on the real broker: tombstones, later revisions, and what is no budget."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from spendmeter.contract.budget import Budget
from spendmeter.contract.records import encode_budget
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.settings import Settings
from spendmeter.topics.budgets import REFUSED, BudgetTopic
from tests.builders import budget
from tests.integration.kafka.conftest import under_way

Headers = list[tuple[str, bytes]]


@pytest.fixture
async def kafka_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with producer(settings) as kafka:
        yield kafka


class Publisher:
    """Puts anything on spend.budgets."""

    def __init__(self, settings: Settings, kafka: AIOKafkaProducer) -> None:
        self._topic = settings.topic(Topic.BUDGETS)
        self._kafka = kafka

    async def budget(self, of: Budget) -> None:
        record = encode_budget(of)
        await self.record(record.key, record.value, record.headers)

    async def record(self, key: bytes, value: bytes | None, headers: Headers | None = None) -> None:
        await self._kafka.send_and_wait(self._topic, key=key, value=value, headers=headers or [])


@pytest.fixture
def publisher(settings: Settings, kafka_producer: AIOKafkaProducer) -> Publisher:
    return Publisher(settings, kafka_producer)


async def in_force(settings: Settings) -> list[Budget]:
    topic = BudgetTopic(settings)
    await topic.read_to_end()
    return sorted(topic.book, key=lambda of: of.id)


async def test_the_latest_of_each_budget_is_in_force(settings: Settings, publisher: Publisher) -> None:
    for of in (budget(revision=1), budget(id="other"), budget(revision=2, limit_nanousd=7)):
        await publisher.budget(of)

    assert await in_force(settings) == [budget(id="other"), budget(revision=2, limit_nanousd=7)]


async def test_an_older_revision_that_comes_later_changes_nothing(
    settings: Settings, publisher: Publisher
) -> None:
    for of in (budget(revision=2), budget(revision=1, limit_nanousd=7)):
        await publisher.budget(of)

    assert await in_force(settings) == [budget(revision=2)]


async def test_a_tombstone_removes_a_budget_and_a_new_one_may_follow(
    settings: Settings, publisher: Publisher
) -> None:
    await publisher.budget(budget(revision=9))
    await publisher.record(b"per-key", None)
    await publisher.record(b"never there", None)
    assert await in_force(settings) == []

    await publisher.budget(budget(revision=3))

    assert await in_force(settings) == [budget(revision=3)]


async def test_what_is_no_budget_leaves_the_one_in_force_in_force(
    settings: Settings, publisher: Publisher
) -> None:
    good = encode_budget(budget(revision=1))
    worse = encode_budget(budget(revision=2)).value
    refused_before = REFUSED._value.get()
    await publisher.budget(budget(revision=1))

    bad: list[tuple[bytes, bytes, Headers]] = [
        (good.key, b"not json", []),
        (good.key, b"", []),
        (good.key, b'{"id": "per-key"}', []),
        (good.key, worse.replace(b'"day"', b'"fortnight"'), []),
        (good.key, worse.replace(b'"revision":2', b'"revision":2.5'), []),
        (good.key, worse, [("ce_type", b"dev.spendmeter.budget.v2")]),
        (b"another key", worse, []),
        (b"\xff", worse, []),
    ]
    for key, value, headers in bad:
        await publisher.record(key, value, headers)

    assert await in_force(settings) == [budget(revision=1)]
    assert REFUSED._value.get() - refused_before == len(bad)


async def test_every_change_is_told_once_with_what_is_now_in_force(
    settings: Settings, publisher: Publisher
) -> None:
    told: list[tuple[str, int | None]] = []
    topic = BudgetTopic(settings, lambda id_, of: told.append((id_, of.revision if of else None)))
    async with under_way(topic.run):
        for of in (budget(revision=1), budget(revision=2), budget(revision=1)):
            await publisher.budget(of)
        await publisher.record(b"per-key", b"not json")
        await publisher.record(b"per-key", None)
        await publisher.record(b"per-key", None)
        await topic.catch_up()

    assert told == [("per-key", 1), ("per-key", 2), ("per-key", None)]
