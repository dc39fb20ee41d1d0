"""Opening balances from the first second on: partitions that are empty, emptied, or end in a marker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from click.testing import CliRunner

from spendmeter.contract.records import encode_usage
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import connection, partition_of
from spendmeter.kafka.groups import SINK_GROUP, STREAM_GROUP
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.create import create_topics
from spendmeter_sinks.clickhouse.consumer import Sink
from spendmeter_sinks.clickhouse.insert_pipeline import InsertPipeline
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.reconcile.command import reconcile as command
from spendmeter_sinks.reconcile.kafka_reader import CannotCompare
from spendmeter_sinks.reconcile.report import OpeningMissing, Report, render
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from tests.builders import budget, usage
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Worker, open_stream
from tests.patience import WITHIN_SECONDS

Start = Callable[[], tuple[Worker, SinkProcess]]


def now_usage(seq: int, cost_nanousd: int, **fields: Any) -> UsageEvent:
    now = datetime.now(UTC)
    return usage(seq, cost_nanousd, **{"event_id": uuid4(), "occurred_at": now, "started_at": now, **fields})


@pytest.fixture
async def settings(kafka: str, clickhouse: str, topic_prefix: str, database: str) -> SinkSettings:
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=topic_prefix,
        clickhouse_database=database,
    )
    await create_topics(settings)
    server = open_client(settings, database=None)
    migrate(server, database)
    server.close()
    return settings


@pytest.fixture
def start(settings: SinkSettings, tmp_path: Path) -> Iterator[Start]:
    """Starts a stream worker and a sink, and returns them once they are ready."""
    running: list[Any] = []

    def start() -> tuple[Worker, SinkProcess]:
        worker, sink = Worker(settings, tmp_path, "stream-1"), SinkProcess(settings, tmp_path / "sink.log")
        running.extend([worker, sink])
        worker.wait_ready()
        sink.wait_ready()
        return worker, sink

    yield start
    for process in running:
        process.kill()


@asynccontextmanager
async def admin_of(settings: SinkSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def take_by_retention(settings: SinkSettings, partition: int, before: int) -> None:
    """What retention does, at once: the log then begins at `before`."""
    tp = TopicPartition(settings.topic(Topic.USAGE), partition)
    async with admin_of(settings) as admin:
        await admin.delete_records({tp: RecordsToDelete(before_offset=before)})


async def until_committed(settings: SinkSettings, group: str, partition: int, offset: int) -> None:
    tp = TopicPartition(settings.topic(Topic.USAGE), partition)
    async with admin_of(settings) as admin, asyncio.timeout(WITHIN_SECONDS):
        while True:
            found = await admin.list_consumer_group_offsets(settings.topic_prefix + group, partitions=[tp])
            if tp in found and found[tp].offset >= offset:
                return
            await asyncio.sleep(0.1)


def is_told(account: str, spent_nanousd: int) -> Callable[[list[Signal]], bool]:
    return lambda signals: any(
        s.account == account and s.spent_nanousd == spent_nanousd and not s.opening for s in signals
    )


async def test_what_was_spent_while_other_partitions_are_empty_counts(
    settings: SinkSettings, start: Start
) -> None:
    start()
    async with open_stream(settings) as stream:
        # One key, so one of four partitions.
        await stream.send([now_usage(seq, 500_000) for seq in range(1, 6)])
        await stream.client.apply([budget(period="lifetime")])
        await stream.until(Topic.SIGNALS, is_told("per-key|key=k1", 2_500_000))
    await is_equal(settings)


async def test_a_partition_that_retention_emptied_is_covered_and_that_is_said(
    settings: SinkSettings, start: Start
) -> None:
    emptied = partition_of("k1", settings.partitions)
    other = next(k for k in map(str, range(99)) if partition_of(k, settings.partitions) != emptied)
    async with open_stream(settings) as stream:
        await stream.send([now_usage(seq, 1) for seq in range(1, 8)])
        await take_by_retention(settings, emptied, 7)
        _, sink = start()
        await stream.send([now_usage(1, 300, key=other, producer_id="p2")])
        await stream.client.apply([budget(period="lifetime")])
        await stream.until(Topic.SIGNALS, is_told(f"per-key|key={other}", 300))
    assert f"spend.usage:{emptied} begins at 7: the 7 records from 0 on were deleted by retention" in (
        sink.log.read_text()
    )


async def test_what_retention_takes_from_processes_that_were_away_is_said(
    settings: SinkSettings, start: Start
) -> None:
    partition = partition_of("k1", settings.partitions)
    async with open_stream(settings) as stream:
        worker, sink = start()
        await stream.client.apply([budget(period="lifetime")])
        await stream.send([now_usage(seq, 100) for seq in range(1, 4)])
        await until_committed(settings, SINK_GROUP, partition, 3)
        await until_committed(settings, STREAM_GROUP, partition, 3)
        worker.kill()
        sink.kill()
        await stream.send([now_usage(seq, 100) for seq in range(4, 10)])
        await take_by_retention(settings, partition, 8)
        start()
        # Nothing comes after it: also a log that is silent is read on.
        await until_committed(settings, SINK_GROUP, partition, 9)
        await until_committed(settings, STREAM_GROUP, partition, 9)
    assert "begins at 8: the 5 records from 3 on were deleted by retention" in sink.log.read_text()
    assert "retention deleted 5 uncounted records from offset 3 on" in worker.log.read_text()


async def test_markers_of_transactions_hold_up_nobody_and_are_no_loss(
    settings: SinkSettings, start: Start
) -> None:
    partition = partition_of("k1", settings.partitions)
    worker, sink = start()
    async with open_stream(settings) as stream:
        await in_transactions(settings, partition, [now_usage(1, 100)], [now_usage(2, 100)])
        # A record and a marker, twice.
        await until_committed(settings, SINK_GROUP, partition, 4)
        await until_committed(settings, STREAM_GROUP, partition, 4)
        await stream.client.apply([budget(period="lifetime")])
        await stream.until(Topic.SIGNALS, is_told("per-key|key=k1", 200))
        await in_transactions(settings, partition, [now_usage(3, 100)])
        await stream.until(Topic.SIGNALS, is_told("per-key|key=k1", 300))
    await is_equal(settings)
    for log in (worker.log, sink.log):
        assert "retention" not in log.read_text()


async def in_transactions(settings: SinkSettings, partition: int, *events: list[UsageEvent]) -> None:
    kafka = AIOKafkaProducer(**connection(settings), transactional_id=settings.topic_prefix)
    await kafka.start()
    try:
        for group in events:
            async with kafka.transaction():
                for event in group:
                    record = encode_usage(event)
                    await kafka.send(
                        settings.topic(Topic.USAGE),
                        key=record.key,
                        value=record.value,
                        headers=record.headers,
                        partition=partition,
                    )
    finally:
        await kafka.stop()


async def compared(settings: SinkSettings, wait_seconds: float = 20.0) -> Report:
    client = open_client(settings, settings.clickhouse_database)
    try:
        return await reconcile(settings, client, WindowFilter(), datetime.now(UTC), wait_seconds, 1.0)
    finally:
        client.close()


async def is_equal(settings: SinkSettings) -> None:
    report = await compared(settings)
    assert report.equal, report.differences


async def test_reconcile_says_what_no_opening_balance_has_brought_in(
    settings: SinkSettings, tmp_path: Path
) -> None:
    worker, stop = Worker(settings, tmp_path, "stream-1"), asyncio.Event()
    # History is written, and nobody takes opening balances.
    sink = asyncio.create_task(Sink(settings, InsertPipeline(settings, lambda: datetime.now(UTC))).run(stop))
    try:
        worker.wait_ready()
        async with open_stream(settings) as stream:
            await stream.send([now_usage(seq, 500_000) for seq in range(1, 6)])
            await until_committed(settings, STREAM_GROUP, partition_of("k1", settings.partitions), 5)
            await stream.client.apply([budget(period="lifetime")])
            await stream.send([now_usage(6, 7)])
            await stream.until(Topic.SIGNALS, lambda found: any(s.spent_nanousd == 7 for s in found))
        report = await compared(settings, wait_seconds=3.0)
    finally:
        worker.kill()
        stop.set()
        await sink
    (missing,) = report.differences
    assert isinstance(missing, OpeningMissing)
    assert (missing.account, missing.history_nanousd, missing.history_events) == (
        "per-key|key=k1",
        2_500_000,
        5,
    )
    assert report.nanousd.history - report.nanousd.stream == 2_500_000
    assert "the budget has no opening balance; $0.0025 in 5 events" in render(report)


async def test_reconcile_says_that_a_reader_has_died_and_exits_2(
    settings: SinkSettings, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    async with open_stream(settings) as stream:
        await stream.client.apply([budget()])

    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(BudgetTopic, "apply", bug)
    async with asyncio.timeout(WITHIN_SECONDS / 2):
        with pytest.raises(
            CannotCompare, match=r"the reader of .*spend\.budgets has ended: ZeroDivisionError"
        ):
            await compared(settings, wait_seconds=600.0)
        env = {
            "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
            "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
            "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        }
        ran = await asyncio.to_thread(CliRunner().invoke, command, ["--wait", "600"], env=env)
    assert ran.exit_code == 2, ran.output
    assert "budgets has ended: ZeroDivisionError" in ran.output
