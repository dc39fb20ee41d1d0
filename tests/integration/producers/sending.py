"""An outbox that is being sent, the log that it is sent to, and a broker to be hurt."""

import asyncio
import hashlib
import itertools
import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.kafka.client import consumer
from spendmeter.settings import Settings
from spendmeter.values.ids import uuid7
from spendmeter_gateway.outbox.recovery import OrphanedOutbox
from spendmeter_gateway.outbox.sender import Acknowledged, Sender
from spendmeter_gateway.outbox.writer import Outbox
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.patience import WITHIN_SECONDS
from tests.versions.releases import kafka_under_test

MAX_BYTES = 64 * 1024**2
PARTITIONS = 4
KEYS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20)]


class Stored(NamedTuple):
    """A record of spend.usage, as it lies in the log."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def event(self) -> UsageEvent:
        return decode(UsageEvent, self.value, self.headers)


class Sending:
    """An outbox that is being sent, and what was acknowledged."""

    def __init__(
        self,
        settings: Settings,
        root: Path,
        predecessors: Sequence[OrphanedOutbox] = (),
        linger_seconds: float = 0.0,
    ) -> None:
        self.outbox = Outbox.open(
            root,
            max_bytes=MAX_BYTES,
            is_signed=bool(settings.read_signing_keys()),
            predecessors=predecessors,
        )
        self.acknowledged: list[Acknowledged] = []
        self.sender = Sender(settings, self.outbox, predecessors, self.acknowledged.append, linger_seconds)

    def append(self, count: int, *, is_urgent: bool = True) -> None:
        for _ in range(count):
            self.outbox.append(lambda seq: event(self.outbox.producer_id, seq))
            self.sender.wake(is_urgent=is_urgent)

    async def acknowledged_more_than(self, count: int) -> None:
        await until(lambda: len(self.acknowledged) > count)

    async def drained(self) -> None:
        assert await self.sender.drain(WITHIN_SECONDS), "not everything was acknowledged"


def event(producer_id: str, seq: int) -> UsageEvent:
    now = datetime.now(UTC)
    return UsageEvent(
        event_id=uuid7(seq),
        producer_id=producer_id,
        seq=seq,
        occurred_at=now,
        started_at=now,
        key=KEYS[seq % len(KEYS)],
        gateway="g",
        cost_nanousd=NanoUsd(seq),
        cost_source=CostSource.LITELLM,
    )


@asynccontextmanager
async def sending(
    settings: Settings,
    root: Path,
    predecessors: Sequence[OrphanedOutbox] = (),
    linger_seconds: float = 0.0,
) -> AsyncIterator[Sending]:
    one = Sending(settings, root, predecessors, linger_seconds)
    running = asyncio.create_task(one.sender.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        one.outbox.close()


async def log_of(settings: Settings) -> list[Stored]:
    """Everything in spend.usage, partition by partition."""
    reader = consumer(settings)
    await reader.start()
    try:
        topic = settings.topic(Topic.USAGE)
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        await reader.seek_to_beginning()
        found: dict[TopicPartition, list[Stored]] = {partition: [] for partition in partitions}
        async with asyncio.timeout(WITHIN_SECONDS):
            while any(len(found[one]) < ends[one] for one in partitions):
                for partition, records in (await reader.getmany(timeout_ms=200)).items():
                    found[partition] += [
                        Stored(partition.partition, r.offset, r.key, r.value, tuple(r.headers))
                        for r in records
                    ]
    finally:
        await reader.stop()
    return list(itertools.chain.from_iterable(found.values()))


def without_resends(log: Sequence[Stored]) -> list[Stored]:
    """What a reader keeps that drops what is at or below the highest seq of its producer and partition.

    Each record dropped must be, byte for byte, one that was kept.
    """
    highest: dict[tuple[str, int], int] = defaultdict(int)
    kept: dict[tuple[str, int], Stored] = {}
    for stored in log:
        known = stored.event
        place = (known.producer_id, stored.partition)
        if known.seq > highest[place]:
            highest[place] = known.seq
            kept[(known.producer_id, known.seq)] = stored
        else:
            first = kept[(known.producer_id, known.seq)]
            assert first._replace(offset=stored.offset) == stored, "a resend is the same record"
    return list(kept.values())


def seqs_of(log: Sequence[Stored], producer_id: str) -> list[int]:
    return sorted(stored.event.seq for stored in log if stored.event.producer_id == producer_id)


def total(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def until(condition: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
    """Let the loop go on until the condition holds."""
    async with asyncio.timeout(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


class OwnBroker:
    """A broker on fixed ports, to be killed and started again. Started from the main thread only."""

    def __init__(self, data_dir: Path) -> None:
        controller_port = free_port()
        self._broker = Broker(data_dir, free_port([controller_port]), controller_port, kafka_under_test())
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, topic_prefix: str) -> Settings:
        return Settings(
            kafka_bootstrap=self._broker.bootstrap, topic_prefix=topic_prefix, partitions=PARTITIONS
        )

    async def start(self) -> None:
        """Start it unless it runs; it has kept what it had."""
        if self._process is not None:
            return
        self._broker.prepare()
        log = self._broker.data_dir / "kafka.log"
        self._process = start_child(self._broker.command(), log=log)
        assert await asyncio.to_thread(
            wait_until, lambda: kafka_answers(self._broker.bootstrap), timeout_seconds=WITHIN_SECONDS
        ), f"not ready: {log}"

    def kill(self) -> None:
        if self._process is not None:
            kill_child(self._process)
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile the process does not run, but its connections stand."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)
