"""A stream of one's own: topics under a prefix, and workers that are real processes."""

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from spendmeter.client import SpendmeterClient, connect
from spendmeter.contract.alert import Alert
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.records import decode, encode_usage, placed_by
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import consumer, partition_of, producer
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from tests.patience import WITHIN_SECONDS


class Worker:
    """`spendmeter stream` as a process that a test may kill, freeze and start again."""

    python = sys.executable
    command: tuple[str, ...] = ("-m", "spendmeter_stream")
    """What Python is to run."""

    def __init__(self, settings: Settings, directory: Path, name: str, **env: str) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._settings = settings
        self._env = {
            "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
            "SPENDMETER_COMPONENT": name,
            "SPENDMETER_INSTANCE_ID": name,
            "SPENDMETER_DATA_DIR": str(directory / name),
            "SPENDMETER_SESSION_TIMEOUT_SECONDS": "6",
            **env,
        }
        self.start()

    def start(self) -> None:
        self.port = free_port()
        env = {**os.environ, **self._env, "SPENDMETER_METRICS_PORT": str(self.port)}
        self.process = start_child([self.python, *self.command], log=self.log, env=env)

    def wait_ready(self) -> "Worker":
        url = f"http://{LOOPBACK}:{self.port}/metrics"
        ready = wait_until(
            lambda: self.process.poll() is not None or says_ready(url), timeout_seconds=WITHIN_SECONDS
        )
        if not ready or self.process.poll() is not None:
            pytest.fail(f"{self.name} is not ready:\n{self.log.read_text()[-3000:]}")
        return self

    def kill(self) -> None:
        kill_child(self.process)

    def stop(self) -> None:
        if self.process.poll() is None:
            stop_child(self.process, grace_seconds=15)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Stream:
    """The topics of one test, and what was put in and came out."""

    def __init__(self, settings: Settings, kafka: AIOKafkaProducer, client: SpendmeterClient) -> None:
        self.settings = settings
        self.client = client
        self.logs: list[Path] = []
        """Of its workers: the end of each is shown where something does not come."""
        self._kafka = kafka

    async def send(self, events: Iterable[UsageEvent]) -> None:
        """Append events in order, as a gateway would."""
        sent = []
        for event in events:
            record = encode_usage(event)
            sent.append(
                await self._kafka.send(
                    self.settings.topic(Topic.USAGE),
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    partition=partition_of(placed_by(event), self.settings.partitions),
                )
            )
        await asyncio.gather(*sent)

    async def send_raw(self, topic: Topic, value: bytes, key: bytes = b"k1", **more: Any) -> None:
        await self._kafka.send_and_wait(self.settings.topic(topic), key=key, value=value, **more)

    async def read(self, topic: Topic) -> list[Any]:
        """Every value on a topic now, decoded."""
        model: Any = {
            Topic.TOTALS: Total,
            Topic.SIGNALS: Signal,
            Topic.ALERTS: Alert,
            Topic.DEAD_LETTERS: DeadLetter,
        }[topic]
        reader = consumer(self.settings)
        await reader.start()
        try:
            name = self.settings.topic(topic)
            numbers = await reader._client._wait_on_metadata(name)
            partitions = [TopicPartition(name, number) for number in numbers]
            reader.assign(partitions)
            ends = await reader.end_offsets(partitions)
            await reader.seek_to_beginning()
            values = []
            while any([await reader.position(tp) < ends[tp] for tp in partitions]):
                for records in (await reader.getmany(timeout_ms=500)).values():
                    values += [decode(model, r.value, r.headers) for r in records if r.value is not None]
            return values
        finally:
            await reader.stop()

    async def spent(self) -> dict[str, int]:
        """Per account and window the totals add up to, as any reader of the topic would find."""
        latest: dict[tuple[str, str, Any], Total] = {}
        for total in await self.read(Topic.TOTALS):
            at = (total.account, str(total.window_start), total.source_partition)
            if at not in latest or latest[at].last_offset < total.last_offset:
                latest[at] = total
        sums: dict[str, int] = defaultdict(int)
        for (account, _, _), total in latest.items():
            sums[account] += total.spent_nanousd
        return dict(sums)

    async def until(self, topic: Topic, condition: Any) -> list[Any]:
        """What is on the topic once the condition holds for it. Fails after WITHIN_SECONDS."""
        deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
        while True:
            values = await self.read(topic)
            if condition(values):
                return values
            if asyncio.get_running_loop().time() > deadline:
                logs = "\n".join(f"{log.name}:\n{log.read_text()[-3000:]}" for log in self.logs)
                pytest.fail(f"{topic}: not within {WITHIN_SECONDS} s; last seen: {values[-3:]}\n{logs}")

    async def until_spent(self, expected: dict[str, int]) -> None:
        """Wait until the totals are at least what is expected, then insist that they are exactly that."""
        deadline = asyncio.get_running_loop().time() + 2 * WITHIN_SECONDS
        while True:
            spent = await self.spent()
            if all(spent.get(account, 0) >= amount for account, amount in expected.items()):
                assert spent == expected
                return
            if asyncio.get_running_loop().time() > deadline:
                pytest.fail(f"totals are {spent}, expected {expected}")


@pytest.fixture
async def stream(kafka: str, topic_prefix: str) -> AsyncIterator[Stream]:
    settings = Settings(kafka_bootstrap=kafka, topic_prefix=topic_prefix)
    await create_topics(settings)
    async with open_stream(settings) as opened:
        yield opened


@asynccontextmanager
async def open_stream(settings: Settings, *logs: Path) -> AsyncIterator[Stream]:
    """The topics of a system that is there."""
    async with connect(settings) as client:
        writer = producer(settings)
        await writer.start()
        try:
            stream = Stream(settings, writer, client)
            stream.logs.extend(logs)
            yield stream
        finally:
            await writer.stop()


@pytest.fixture
def workers(stream: Stream, tmp_path: Path) -> Iterator[Any]:
    """Starts workers; ends those that still run."""
    started: list[Worker] = []

    def start(name: str = "stream-1", **env: str) -> Worker:
        worker = Worker(stream.settings, tmp_path, name, **env)
        started.append(worker)
        stream.logs.append(worker.log)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()
