"""`reconcile` on a live system, and on one whose figures were tampered with."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from sinks.clickhouse.migrate import migrate
from sinks.clickhouse.settings import SinkSettings
from sinks.clickhouse.writer import open_client
from sinks.reconcile.command import reconcile as command
from sinks.reconcile.report import ConflictingEvents, LostEvents, Report, SignalDiffers, TotalDiffers
from sinks.reconcile.run import reconcile
from sinks.reconcile.scope import Chosen
from spendmeter.client import connect
from spendmeter.contract.records import encode_total
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.local.children import kill_child, start_child
from spendmeter.local.ports import LOOPBACK, free_port
from spendmeter.local.probes import says_ready
from spendmeter.local.waiting import wait_until
from spendmeter.runtime.create_topics import create_topics
from spendmeter.runtime.kafka import partition_of, producer
from tests.builders import budget, usage
from tests.integration.stream.conftest import Stream, Worker

READY_WITHIN_SECONDS = 60
WAIT_SECONDS = 20.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def now_usage(seq: int, cost_nanousd: int = 1_000, **fields: Any) -> UsageEvent:
    now = datetime.now(UTC)
    return usage(seq, cost_nanousd, **{"event_id": uuid4(), "occurred_at": now, "started_at": now, **fields})


class System:
    """A stream worker and a sink as real processes, on topics and a database of their own."""

    def __init__(self, settings: SinkSettings, history: Client, worker: Worker) -> None:
        self.settings = settings
        self.history = history
        self.worker = worker

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        async with connect(self.settings) as client:
            writer = producer(self.settings)
            await writer.start()
            try:
                yield Stream(self.settings, writer, client)
            finally:
                await writer.stop()

    async def compare(self, wait_seconds: float = WAIT_SECONDS) -> Report:
        return await reconcile(self.settings, self.history, Chosen(), datetime.now(UTC), wait_seconds)

    def env(self) -> dict[str, str]:
        return {
            "SPENDMETER_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "SPENDMETER_CLICKHOUSE_URL": self.settings.clickhouse_url,
            "SPENDMETER_CLICKHOUSE_DATABASE": self.settings.clickhouse_database,
            "SPENDMETER_TOPIC_PREFIX": self.settings.topic_prefix,
        }


@contextmanager
def running_system(kafka: str, clickhouse: str, directory: Path) -> Iterator[System]:
    name = f"t{uuid4().hex[:12]}"
    settings = SinkSettings(
        kafka_bootstrap=kafka, clickhouse_url=clickhouse, topic_prefix=f"{name}.", clickhouse_database=name
    )
    asyncio.run(create_topics(settings))
    server = open_client(settings, database=None)
    migrate(server, name)
    server.close()
    history = open_client(settings, database=name)
    worker = Worker(settings, directory, "stream-1")
    system = System(settings, history, worker)
    port = free_port()
    sink = start_child(
        [sys.executable, "-m", "sinks.clickhouse"],
        log=directory / "sink.log",
        env={**os.environ, **system.env(), "SPENDMETER_METRICS_PORT": str(port)},
    )
    try:
        worker.wait_ready()
        assert wait_until(
            lambda: says_ready(f"http://{LOOPBACK}:{port}/metrics"), timeout_seconds=READY_WITHIN_SECONDS
        ), (directory / "sink.log").read_text()[-3000:]
        yield system
    finally:
        kill_child(worker.process)
        kill_child(sink)
        history.close()


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all tests that tamper: each with producers and keys of its own."""
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("system")) as running:
        yield running


def of_kind(report: Report, kind: Any, about: str) -> list[Any]:
    """The differences of one kind whose account or producer is named so."""
    return [
        d
        for d in report.differences
        if isinstance(d, kind) and about in getattr(d, "account", getattr(d, "producer_id", ""))
    ]


class Traffic:
    """Gateways that send until told to stop: resends, records that cannot be read, late events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._seqs = {f"live-{n}": 0 for n in range(3)}
        self.sent = 0
        self.nanousd = 0

    async def until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            for name in self._seqs:
                await self._chunk(name)
            await asyncio.sleep(0.02)  # the rate of the traffic, not a synchronisation

    async def _chunk(self, name: str) -> None:
        first = self._seqs[name] + 1
        self._seqs[name] += 20
        events = [
            now_usage(seq, seq * 7, producer_id=name, key=f"k{seq % 9}", tags=("a", "b")[: seq % 3])
            for seq in range(first, first + 20)
        ]
        poison = events.pop(first % 20).model_copy(update={"cost_nanousd": -1})
        await self._stream.send(events[:10])
        await self._stream.send_raw(
            Topic.USAGE,
            poison.model_dump_json().encode(),
            key=poison.key.encode(),
            partition=partition_of(poison.key, self._stream.settings.partitions),
        )
        await self._stream.send(events[10:])
        await self._stream.send(events)
        self.sent += len(events)
        self.nanousd += sum(event.cost_nanousd for event in events)


@pytest.fixture
def live(kafka: str, clickhouse: str, tmp_path: Path) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path) as running:
        yield running


async def test_a_live_system_under_traffic_is_equal_at_every_look(live: System) -> None:
    async with live.stream() as stream:
        await stream.client.apply(
            [
                budget(period="hour"),
                budget(id="all", match={}, period="lifetime"),
                budget(id="tags", match={"tag": "*", "gateway": "g1"}, period="PT1M", starts_at=BEGIN),
            ]
        )
        stop, traffic = asyncio.Event(), Traffic(stream)
        flowing = asyncio.create_task(traffic.until(stop))
        try:
            for look in range(4):
                report = await live.compare()
                assert report.equal, report.model_dump_json(indent=2)
                if look == 1:
                    live.worker.kill()
                    live.worker.start()
                if look == 2:
                    await stream.client.reset("all")
        finally:
            stop.set()
            await flowing
        report = await live.compare()
    assert report.equal, report.model_dump_json(indent=2)
    assert report.compared.events == traffic.sent
    assert report.nanousd.recorded == traffic.nanousd
    assert report.nanousd.stream == report.nanousd.history > 0
    assert report.nanousd.signals == report.nanousd.totals > 0
    assert report.compared.producers == 3
    assert report.dead_letters.records == report.dead_letters.with_seq > 0
