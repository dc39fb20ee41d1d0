"""A history of one's own: topics, database and settings that no other test uses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import Record
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.topics.create import create_topics
from spendmeter_sinks.clickhouse.consumer import Sink
from spendmeter_sinks.clickhouse.insert_pipeline import InsertPipeline
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from tests.patience import WITHIN_SECONDS

Put = Callable[[Topic, Sequence[Record]], Awaitable[None]]
Running = Callable[[], AbstractAsyncContextManager[None]]
Eventually = Callable[[str, object], Awaitable[None]]


@pytest.fixture
async def settings(kafka: str, clickhouse: str, topic_prefix: str, database: str) -> SinkSettings:
    """Settings of a sink whose topics exist and whose database does not."""
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=topic_prefix,
        clickhouse_database=database,
        partitions=2,
        sink_linger_ms=50,
        sink_instance="only",
    )
    await create_topics(settings)
    return settings


@pytest.fixture
def history(settings: SinkSettings) -> Iterator[Client]:
    """The migrated database, to be queried."""
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    yield client
    client.close()


@pytest.fixture
async def put(settings: SinkSettings) -> AsyncIterator[Put]:
    """Send records to partition 0 of a topic, in order, and wait until the broker has them."""
    kafka = producer(settings)
    await kafka.start()

    async def put(topic: Topic, records: Sequence[Record]) -> None:
        name = settings.topic(topic)
        sent = [
            await kafka.send(name, key=r.key, value=r.value, headers=r.headers, partition=0) for r in records
        ]
        await asyncio.gather(*sent)

    yield put
    await kafka.stop()


@pytest.fixture
def running(settings: SinkSettings, history: Client) -> Running:
    """A sink in this process for as long as the context lasts."""

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        stop = asyncio.Event()
        sink = asyncio.create_task(
            Sink(settings, InsertPipeline(settings, lambda: datetime.now(UTC))).run(stop)
        )
        try:
            yield
        finally:
            stop.set()
            await sink

    return running


@pytest.fixture
def eventually(history: Client) -> Eventually:
    """Wait until a query gives the expected rows; fail with what it gave last."""

    async def eventually(query: str, expected: object) -> None:
        found: object = None
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN_SECONDS):
                while found != expected:
                    found = (await asyncio.to_thread(history.query, query)).result_rows
                    await asyncio.sleep(0.05)
        assert found == expected

    return eventually
