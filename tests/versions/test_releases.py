"""The oldest releases that are supported: the schema loads, every query works, and an older one is named."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spendmeter.runtime.supported import clickhouse_warning, warning_of_kafka
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter.values.dimensions import Dimension
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, kafka_answers, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import USAGE, USAGE_OBJECTS
from spendmeter_sinks.clickhouse.writer import RecordLocation, Writer, open_client
from spendmeter_sinks.database.migrate import migrate, migrations
from spendmeter_sinks.history.usage_rows import TimeRange
from spendmeter_sinks.reconcile.history import History
from tests.integration.stream.conftest import Worker
from tests.versions.conftest import only_in_a_whole_run
from tests.versions.releases import OLDEST_ENGINE, TOO_OLD_KAFKA
from tests.versions.test_last_release import LAST, events

READY_WITHIN_SECONDS = 240
VIEWS = ("usage_once", "usage_net", "signals_now", "budgets_now")


@contextmanager
def running(
    command: Sequence[str], log: Path, is_ready: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[None]:
    process = start_child(command, log=log, env=env)
    try:
        assert wait_until(is_ready, timeout_seconds=READY_WITHIN_SECONDS), log.read_text()
        yield
    finally:
        kill_child(process)


def _of_bill(column: str, bills: list[RecordLocation]) -> list[Any]:
    """A column of USAGE_OBJECTS, of bills of one object that stand there."""
    same: dict[str, Any] = {"object_id": "openai/one", "producer_id": "p", "seq": 1, "event_id": 5}
    same["appended_at"] = datetime(2026, 11, 30, tzinfo=UTC)
    return [same[column] if column in same else getattr(bill, column) for bill in bills]


@pytest.fixture(scope="module")
def oldest_clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("oldest"), free_port()
    address = f"{LOOPBACK}:{port}"
    command, log = OLDEST_ENGINE.command(folder / "data", port), folder / "engine.log"
    with running(command, log, lambda: http_answers(f"http://{address}/ping"), OLDEST_ENGINE.env("oldest")):
        yield f"http://default:oldest@{address}"


@pytest.fixture
def oldest_engine(oldest_clickhouse: str, database: str) -> SinkSettings:
    return SinkSettings(clickhouse_url=oldest_clickhouse, clickhouse_database=database)


def test_the_oldest_clickhouse_takes_the_last_releases_rows_and_todays_schema(
    oldest_engine: SinkSettings,
) -> None:
    client = open_client(oldest_engine, database=None)
    LAST.lay_into_clickhouse(client, oldest_engine.clickhouse_database)
    assert migrate(client, oldest_engine.clickhouse_database)
    assert client.server_version.startswith(f"{OLDEST_ENGINE.version}.")
    assert clickhouse_warning(client.server_version) is None

    writer = Writer(oldest_engine)
    writer.check()
    assert writer.reached(USAGE, "earlier.spend.usage", 0, "") > 0
    bills = [RecordLocation("t", 1, 8, ""), RecordLocation("t", 1, 7, ""), RecordLocation("t", 1, 9, "")]
    writer.insert(USAGE_OBJECTS, [_of_bill(name, bills) for name in USAGE_OBJECTS.columns], "")
    assert writer.first_bills(["openai/one", "openai/none"]) == {"openai/one": RecordLocation("t", 1, 7, "")}
    writer.close()
    for view in VIEWS:
        assert client.query(f"SELECT * FROM {view}").result_rows
    history = History(client, "earlier.spend.usage")
    bounds = {0: 1_000, 1: 1_000}
    spent = sum(event["cost_nanousd"] for event in events())
    assert history.count(bounds) == (len(events()), spent)
    assert history.gaps([one.producer_id for one in history.recorded()]) == {}
    assert history.conflicts([one.producer_id for one in history.recorded()]) == []
    dimensions: list[Dimension] = ["key", "tag"]
    (piece,) = history.slices(TimeRange(None, None))
    costly, free = (list(read(dimensions, piece, bounds)) for read in (history.rows, history.free))
    assert sum(row[4] for row in costly) == spent
    assert len(costly) + len(free) == len(events())
    assert [row[4] for row in history.flats(dimensions, piece, bounds)] == [(1, 1)]
    client.close()


def test_the_newest_schema_is_made_from_nothing_on_the_oldest_clickhouse(oldest_engine: SinkSettings) -> None:
    client = open_client(oldest_engine, database=None)
    assert len(migrate(client, oldest_engine.clickhouse_database)) == len(migrations())
    assert migrate(client, oldest_engine.clickhouse_database) == []
    client.close()


@only_in_a_whole_run
def test_a_worker_says_that_its_kafka_is_older_than_any_that_was_tried(tmp_path: Path) -> None:
    fetch_jars(release=TOO_OLD_KAFKA)
    controller_port = free_port()
    broker = Broker(tmp_path / "kafka", free_port([controller_port]), controller_port, TOO_OLD_KAFKA)
    broker.prepare()
    settings = Settings(kafka_bootstrap=broker.bootstrap)
    with running(broker.command(), tmp_path / "kafka.log", lambda: kafka_answers(broker.bootstrap)):
        asyncio.run(create_topics(settings))
        worker = Worker(settings, tmp_path, "stream")
        try:
            worker.wait_ready()
            assert (
                "Kafka is older than 3.9, the oldest that spendmeter is tested on" in worker.log.read_text()
            )
        finally:
            worker.kill()


async def test_nothing_is_said_of_the_kafka_that_the_tests_run_on(kafka: str) -> None:
    assert await warning_of_kafka(Settings(kafka_bootstrap=kafka)) is None
