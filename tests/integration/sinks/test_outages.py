"""ClickHouse away, partitions taken away, a worker added: nothing lost, nothing doubled, no one stuck."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, wait_until
from spendmeter_sinks.clickhouse import assignment
from spendmeter_sinks.clickhouse.batch import PartitionBatches
from spendmeter_sinks.clickhouse.consumer import Sink
from spendmeter_sinks.clickhouse.insert_pipeline import InsertPipeline
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import Table
from spendmeter_sinks.clickhouse.writer import NotMigrated, open_client
from spendmeter_sinks.database.migrate import migrate
from tests.builders import usage
from tests.integration.sinks.conftest import Eventually, Put
from tests.patience import WITHIN_SECONDS
from tests.versions.releases import engine_under_test

EVENTS = 3_000
HOUR_OF_EVENTS = 3_600 * 60
CHUNK = 20_000


def sink_of(settings: SinkSettings) -> Sink:
    return Sink(settings, InsertPipeline(settings, lambda: datetime.now(UTC)))


class Engine:
    """A ClickHouse that a test may kill and start again on the same data."""

    def __init__(self, data: Path) -> None:
        self._data, self._port = data, free_port()
        self._address = f"{LOOPBACK}:{self._port}"
        self.url = f"http://default:outages@{self._address}"

    def start(self) -> None:
        release = engine_under_test()
        command, env = release.command(self._data, self._port), release.env("outages")
        self._child = start_child(command, log=self._data / "log", env=env)
        assert wait_until(
            lambda: http_answers(f"http://{self._address}/ping"), timeout_seconds=WITHIN_SECONDS
        )

    def kill(self) -> None:
        kill_child(self._child)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    engine.start()
    yield engine
    engine.kill()


class Killed(InsertPipeline):
    """Of a worker that is killed after its first inserts, before it can commit."""

    inserted = 0

    async def insert(
        self, table: Table, partition: TopicPartition, queue: PartitionBatches, over: asyncio.Event
    ) -> None:
        await super().insert(table, partition, queue, over)
        self.inserted += 1
        await asyncio.Event().wait()


async def test_a_history_restored_to_before_an_insert_whose_worker_was_killed(
    settings: SinkSettings, history: Client, put: Put, eventually: Eventually
) -> None:
    await put(Topic.USAGE, [encode_usage(usage(n, n)) for n in range(1, 101)])
    killed = Killed(settings, lambda: datetime.now(UTC))
    first = asyncio.create_task(Sink(settings, killed).run(asyncio.Event()))
    await eventually("SELECT count() FROM usage", [(100,)])
    first.cancel()
    await asyncio.wait({first})
    assert killed.inserted
    history.command("ALTER TABLE usage DELETE WHERE offset >= 7 SETTINGS mutations_sync = 1")
    assert history.query("SELECT max(offset) FROM usage").result_rows == [(6,)]
    stop = asyncio.Event()
    second = asyncio.create_task(sink_of(settings).run(stop))
    await eventually("SELECT count() FROM usage FINAL", [(100,)])
    stop.set()
    await second


async def test_killed_clickhouse_costs_no_event_and_doubles_none(
    settings: SinkSettings, engine: Engine, put: Put
) -> None:
    settings = settings.model_copy(update={"clickhouse_url": engine.url, "sink_max_batch_rows": 200})
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    stop = asyncio.Event()
    working = asyncio.create_task(sink_of(settings).run(stop))
    for first in range(1, EVENTS + 1, EVENTS // 3):
        putting = asyncio.ensure_future(
            put(Topic.USAGE, [encode_usage(usage(n, n)) for n in range(first, first + EVENTS // 3)])
        )
        await _until_more_rows(client, first - 1)
        await asyncio.to_thread(engine.kill)
        await putting
        await asyncio.to_thread(engine.start)
        client.command("SYSTEM STOP MERGES usage")
    await _until_more_rows(client, EVENTS - 1)
    stop.set()
    await working
    raw = client.query("SELECT count(), uniqExact(event_id), sum(cost_nanousd) FROM usage").result_rows
    assert raw == [(EVENTS, EVENTS, EVENTS * (EVENTS + 1) // 2)]
    client.close()


async def test_an_hour_of_traffic_that_clickhouse_missed_is_all_there_once_it_is_back(
    settings: SinkSettings, engine: Engine, put: Put
) -> None:
    """An hour at 60 events a second. What waits meanwhile waits in Kafka, not in the sink."""
    settings = settings.model_copy(
        update={"clickhouse_url": engine.url, "sink_max_buffered_bytes": 8 * 1024 * 1024}
    )
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    stop = asyncio.Event()
    working = asyncio.create_task(sink_of(settings).run(stop))
    await put(Topic.USAGE, [encode_usage(usage(1, 1))])
    await _until_more_rows(client, 0)
    await asyncio.to_thread(engine.kill)
    for first in range(2, HOUR_OF_EVENTS + 1, CHUNK):
        chunk = range(first, min(first + CHUNK, HOUR_OF_EVENTS + 1))
        await put(Topic.USAGE, [encode_usage(usage(n, n)) for n in chunk])
    await asyncio.to_thread(engine.start)
    await _until_more_rows(client, HOUR_OF_EVENTS - 1)
    stop.set()
    await working
    there = client.query("SELECT count(), sum(cost_nanousd) FROM usage FINAL").result_rows
    assert there == [(HOUR_OF_EVENTS, HOUR_OF_EVENTS * (HOUR_OF_EVENTS + 1) // 2)]
    client.close()


async def test_a_poll_that_outlasts_a_rebalance_takes_nothing_with_it(
    settings: SinkSettings, history: Client, eventually: Eventually, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "IDLE_POLL_SECONDS", 60.0)
    settings = settings.model_copy(update={"sink_instance": None})
    stops = [asyncio.Event(), asyncio.Event()]
    sinks = [sink_of(settings), sink_of(settings)]
    workers = [asyncio.create_task(sinks[0].run(stops[0]))]
    await put(Topic.USAGE, [encode_usage(usage(1, 1))])
    await eventually("SELECT count() FROM usage", [(1,)])
    # From now on the first one waits in a poll for what comes, whoever it will belong to.
    workers.append(asyncio.create_task(sinks[1].run(stops[1])))
    async with asyncio.timeout(60):
        while not all(sink.partitions for sink in sinks) or sinks[0].partitions & sinks[1].partitions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await put(Topic.USAGE, [encode_usage(usage(n, n, key=f"k{n}")) for n in range(2, 101)])
    await eventually("SELECT count(), uniqExact(event_id) FROM usage", [(100, 100)])
    for stop in stops:
        stop.set()
    # What ends their polls.
    await put(Topic.USAGE, [encode_usage(usage(n, n, key=f"k{n}")) for n in range(101, 121)])
    await asyncio.gather(*workers)


async def test_a_second_worker_joins_and_the_first_leaves_without_a_doubled_row(
    settings: SinkSettings, history: Client, eventually: Eventually
) -> None:
    history.command("SYSTEM STOP MERGES usage")
    settings = settings.model_copy(update={"sink_instance": None, "sink_max_batch_rows": 100})
    stops = [asyncio.Event(), asyncio.Event()]
    workers = [asyncio.create_task(sink_of(settings).run(stops[0]))]
    kafka = producer(settings)
    await kafka.start()

    async def traffic() -> None:
        for n in range(1, EVENTS + 1):
            record = encode_usage(usage(n, n, key=f"k{n % 20}"))
            await kafka.send(settings.topic(Topic.USAGE), key=record.key, value=record.value)
            await asyncio.sleep(0.001)

    producing = asyncio.create_task(traffic())
    await eventually("SELECT count() > 300 FROM usage", [(True,)])
    workers.append(asyncio.create_task(sink_of(settings).run(stops[1])))
    await eventually("SELECT count() > 1500 FROM usage", [(True,)])
    stops[0].set()
    await workers[0]
    await producing
    await kafka.flush()
    await eventually("SELECT count(), uniqExact(event_id) FROM usage", [(EVENTS, EVENTS)])
    stops[1].set()
    await workers[1]
    await kafka.stop()


async def test_without_tables_the_sink_names_the_command_that_makes_them(settings: SinkSettings) -> None:
    with pytest.raises(NotMigrated, match=r"spendmeter sink migrate"):
        await sink_of(settings).run(asyncio.Event())


async def _until_more_rows(client: Client, than: int) -> None:
    def there_are() -> bool:
        return int(client.query("SELECT count() FROM usage").result_rows[0][0]) > than

    assert await asyncio.to_thread(wait_until, there_are, timeout_seconds=120)
