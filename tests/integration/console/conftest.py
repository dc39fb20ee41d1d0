"""The page as a process of its own, on the real broker and engine, with a month of a company in them."""

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.runtime import clickhouse as connection
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from spendmeter_sinks.clickhouse.consumer import Sink
from spendmeter_sinks.clickhouse.insert_pipeline import InsertPipeline
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.database.migrate import migrate
from tests.patience import WITHIN_SECONDS

from .world import World

REQUESTS = 500
_CLIENTS = count()


class Site(NamedTuple):
    """A page that is served."""

    url: str
    log: Path

    def client(self, address: str = "", **more: Any) -> httpx.Client:
        """A client at an address of its own, so that none uses up another's rate."""
        number = next(_CLIENTS)
        own = httpx.HTTPTransport(local_address=address or f"127.1.{number // 250}.{number % 250 + 1}")
        return httpx.Client(base_url=self.url, timeout=WITHIN_SECONDS, transport=own, **more)


@pytest.fixture(scope="session")
def system(kafka: str, clickhouse: str) -> SinkSettings:
    """Where a system of its own is."""
    return SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=f"t{uuid4().hex[:12]}.",
        clickhouse_database=f"t{uuid4().hex[:12]}",
        partitions=2,
        sink_linger_ms=50,
    )


@pytest.fixture(scope="session")
def world(system: SinkSettings) -> World:
    """What is on the topics, and in history."""
    made = World(datetime.now(UTC), REQUESTS)
    stored_system(system, made)
    return made


def stored_system(settings: SinkSettings, world: World) -> None:
    """Make topics and tables, and store the world in them."""
    asyncio.run(create_topics(settings))
    client = connection.client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    client.close()
    asyncio.run(store(settings, world, [*world.records()]))


@pytest.fixture(scope="session")
def site(system: SinkSettings, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page without sign-in, on loopback, as it is by default."""
    with serving(system, tmp_path_factory.mktemp("web")) as served:
        yield served


@contextmanager
def serving(
    system: SinkSettings, directory: Path, env: Mapping[str, str] = {}, command: Sequence[str] = ()
) -> Iterator[Site]:
    """`spendmeter web` for as long as the block lasts."""
    port = free_port()
    metrics = free_port([port])
    log = directory / "web.log"
    settings = {
        "KAFKA_BOOTSTRAP": system.kafka_bootstrap,
        "CLICKHOUSE_URL": system.clickhouse_url,
        "CLICKHOUSE_DATABASE": system.clickhouse_database,
        "TOPIC_PREFIX": system.topic_prefix,
        "WEB_PORT": str(port),
        "METRICS_PORT": str(metrics),
        **env,
    }
    process = start_child(
        [sys.executable, "-m", "spendmeter_console"],
        log=log,
        env={**os.environ, **{f"SPENDMETER_{name}": value for name, value in settings.items()}},
    )
    try:
        ready = wait_until(
            lambda: process.poll() is not None or says_ready(f"http://{LOOPBACK}:{metrics}/metrics"),
            timeout_seconds=WITHIN_SECONDS,
        )
        assert ready, log.read_text()
        assert process.poll() is None, log.read_text()
        yield Site(f"http://{LOOPBACK}:{port}", log)
    finally:
        kill_child(process)


async def send(settings: SinkSettings, records: Sequence[tuple[Topic, object]]) -> None:
    """Put records onto their topics, in their order."""
    kafka = producer(settings)
    await kafka.start()
    try:
        sent = [
            await kafka.send(settings.topic(topic), key=r.key, value=r.value, headers=r.headers)  # type: ignore[attr-defined]
            for topic, r in records
        ]
        await asyncio.gather(*sent)
    finally:
        await kafka.stop()


async def store(settings: SinkSettings, world: World, records: Sequence[tuple[Topic, object]]) -> None:
    """Put records onto their topics, and wait until a sink has stored all of the world."""
    await send(settings, records)
    stop = asyncio.Event()
    sink = asyncio.create_task(Sink(settings, InsertPipeline(settings, lambda: datetime.now(UTC))).run(stop))
    client = connection.client(settings, database=settings.clickhouse_database)
    wanted = {
        "usage": len(world.events),
        "signals": len(world.signals),
        "decisions": len(world.decisions),
        "alerts": len(world.alerts),
        "deliveries": len(world.deliveries),
        "budgets": len(world.budgets),
    }

    def is_stored() -> bool:
        return all(
            client.query(f"SELECT count() FROM {table} FINAL").result_rows[0][0] >= count
            for table, count in wanted.items()
        )

    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while not await asyncio.to_thread(is_stored):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    finally:
        stop.set()
        await sink
        client.close()
