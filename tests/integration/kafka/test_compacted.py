"""A compacted topic in memory, on the real broker: complete, in order, and through outages."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord

from spendmeter.contract.topics import Topic
from spendmeter.kafka import compacted
from spendmeter.kafka.client import producer
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from tests.integration.kafka.conftest import MortalBroker, under_way
from tests.patience import WITHIN_SECONDS

TOPICS = (Topic.BUDGETS, Topic.SIGNALS)


class Reader(CompactedTopics):
    """What was read, in the order it came."""

    def __init__(self, settings: Settings) -> None:
        self.seen: list[str] = []
        super().__init__(settings, [settings.topic(topic) for topic in TOPICS], self._see)

    def _see(self, record: ConsumerRecord) -> None:
        self.seen.append(record.value.decode())


class Writer:
    """Numbers, written to two topics and all their partitions; a number is returned once it is stored."""

    def __init__(self, settings: Settings, kafka: AIOKafkaProducer) -> None:
        self._names = [settings.topic(topic) for topic in TOPICS]
        self._kafka = kafka
        self._numbers: Iterator[int] = count()

    async def write(self) -> str:
        number = next(self._numbers)
        value = str(number)
        topic = self._names[number % 2]
        await self._kafka.send_and_wait(topic, key=value.encode(), value=value.encode())
        return value


async def test_one_look_reads_all_that_is_there_and_stops(settings: Settings) -> None:
    reader = Reader(settings)
    async with producer(settings) as kafka:
        writer = Writer(settings, kafka)
        written = [await writer.write() for _ in range(50)]

    await reader.read_to_end()

    assert sorted(reader.seen) == sorted(written)


async def test_one_look_at_nothing_ends_too(settings: Settings) -> None:
    reader = Reader(settings)

    await reader.read_to_end()

    assert reader.seen == []


async def test_a_look_at_a_topic_that_is_not_there_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacted, "TOPIC_WITHIN_SECONDS", 1.0)
    nowhere = settings.model_copy(update={"topic_prefix": "nobody."})

    with pytest.raises(
        UnknownTopicOrPartitionError, match=r"there is no topic nobody\.spend\.budgets; create"
    ):
        await Reader(nowhere).read_to_end()


async def test_to_catch_up_is_to_have_seen_all_that_was_acknowledged(settings: Settings) -> None:
    """Raise, then catch up, then judge: a reader that were one record short would refuse wrongly."""
    reader = Reader(settings)
    async with producer(settings) as kafka, under_way(reader.run):
        writer = Writer(settings, kafka)
        for _ in range(40):
            written = await writer.write()
            await reader.catch_up()

            assert written in reader.seen

    assert sorted(reader.seen, key=int) == [str(number) for number in range(40)]


async def test_several_can_catch_up_while_others_write(settings: Settings) -> None:
    reader = Reader(settings)

    async def write_and_look(writer: Writer) -> None:
        for _ in range(10):
            written = await writer.write()
            await reader.catch_up()
            assert written in reader.seen

    async with producer(settings) as kafka, under_way(reader.run):
        writer = Writer(settings, kafka)
        await asyncio.gather(*(write_and_look(writer) for _ in range(5)))

    assert len(reader.seen) == len(set(reader.seen)) == 50


async def test_what_a_callback_raises_ends_the_reading(settings: Settings) -> None:
    def stumble(record: ConsumerRecord) -> None:
        raise ZeroDivisionError(record.value)

    reader = CompactedTopics(settings, [settings.topic(Topic.BUDGETS)], stumble)
    async with producer(settings) as kafka, under_way(reader.run) as running:
        await kafka.send_and_wait(settings.topic(Topic.BUDGETS), key=b"k", value=b"v")
        await asyncio.wait([running], timeout=WITHIN_SECONDS)

        with pytest.raises(ZeroDivisionError):
            running.result()


async def test_a_reader_outlives_its_broker_and_one_that_starts_meanwhile_waits_for_it(
    mortal: MortalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacted, "CATCH_UP_WITHIN_SECONDS", 3.0)
    settings = Settings(kafka_bootstrap=mortal.bootstrap, component="test")
    await create_topics(settings)
    reader, late = Reader(settings), Reader(settings)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as readers:
        running = await readers.enter_async_context(under_way(reader.run))
        async with producer(settings) as kafka:
            written = [await Writer(settings, kafka).write()]
        await reader.catch_up()

        mortal.kill()
        killed_at = loop.time()

        with pytest.raises(KafkaError):
            await reader.catch_up()
        assert reader.last_answer is not None
        # Blind since the broker died, whatever the client's polls return meanwhile.
        assert reader.last_answer < killed_at + 1.5
        assert not running.done()
        await readers.enter_async_context(under_way(late.run))
        with pytest.raises(KafkaError):
            await late.catch_up()

        monkeypatch.setattr(compacted, "CATCH_UP_WITHIN_SECONDS", 60.0)
        await mortal.start_again()
        async with producer(settings) as kafka:
            later = Writer(settings, kafka)
            await later.write()
            written += [await later.write() for _ in range(5)]
        await reader.catch_up()
        await late.catch_up()
        answered = reader.last_answer

    # Each record once: the one that lived on did not begin anew.
    assert sorted(reader.seen) == sorted(late.seen) == sorted(["0", *written])
    assert answered is not None
    assert answered > killed_at + 1.5
