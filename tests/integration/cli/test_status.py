"""`spendmeter status` of a cluster: who is there, how far behind, what waits."""

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from spendmeter.contract.dead_letter import DeadLetter, Reason
from spendmeter.contract.records import Record, encode_dead_letter
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import TopicPartition, consumer
from spendmeter.kafka.groups import SINK_GROUP, SINK_TOPICS, STREAM_GROUP, STREAM_TOPICS
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter_sinks.clickhouse.tables import TABLES
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter, spendmeter_json
from .test_budget import send

NO_MEMBERS = ["nobody runs `spendmeter stream`", "nobody runs `spendmeter sink`"]


@pytest.fixture
def history(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = connection.client(ClickHouseSettings(clickhouse_url=clickhouse), database=None)
    migrate(server, database)
    server.close()
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)


@asynccontextmanager
async def member(settings: Settings, group: str, topics: Sequence[Topic]) -> Any:
    """A process of the group, which commits only what a test wants."""
    kafka = consumer(settings, group=group)
    await kafka.start()
    kafka.subscribe([settings.topic(topic) for topic in topics])
    try:
        # Returns once the group has given it its partitions.
        await kafka.getmany(timeout_ms=0)
        while not kafka.assignment():
            await kafka.getmany(timeout_ms=100)
        yield kafka
    finally:
        await kafka.stop()


async def status(*options: str, exit_code: int = 0) -> str:
    return await asyncio.to_thread(spendmeter, "status", *options, exit_code=exit_code)


def test_the_sink_reads_what_history_has_tables_for() -> None:
    assert {table.topic for table in TABLES} == set(SINK_TOPICS)


async def test_who_is_missing_and_what_is_behind_is_said_and_ends_with_1(
    settings: Settings, history: None
) -> None:
    shown = await status(exit_code=1)
    assert [said for said in NO_MEMBERS if said not in shown] == [], shown
    records = [Record(b"", b"{", [])] * 3
    await send(settings, Topic.ALERTS, *records)

    async with (
        member(settings, STREAM_GROUP, STREAM_TOPICS),
        member(settings, SINK_GROUP, SINK_TOPICS) as sink,
    ):
        assert "all is there and keeps up" in await status()
        shown = await status("--behind", "0", exit_code=1)
        assert f"{settings.topic_prefix}{SINK_GROUP} is behind: 3 records, the oldest of" in shown
        assert not any(said in shown for said in NO_MEMBERS)

        await sink.commit({TopicPartition(settings.topic(Topic.ALERTS), 0): 2})
        found = await asyncio.to_thread(spendmeter_json, "status")
        of_sink = {group["group"].removeprefix(settings.topic_prefix): group for group in found["groups"]}[
            SINK_GROUP
        ]
        assert (of_sink["unread"], len(of_sink["members"])) == (1, 1)
        assert [lag["records"] for lag in of_sink["topics"] if lag["topic"].endswith("alerts")] == [1]
        assert of_sink["oldest_seconds"] >= 0
        assert (found["problems"], found["kafka"]["brokers"]) == ([], 1)
        assert found["clickhouse"]["schema"] >= 14

        letter = DeadLetter(
            source_topic=settings.topic(Topic.USAGE),
            source_partition=0,
            source_offset=7,
            reason=Reason.NOT_JSON,
            detail="no JSON",
            component="stream",
            failed_at=datetime.now(UTC),
            key="",
            payload="{",
        )
        await send(settings, Topic.DEAD_LETTERS, encode_dead_letter(letter))
        assert "1 records could not be read or counted; `spendmeter letters list`" in await status(
            exit_code=1
        )


@pytest.mark.usefixtures("settings")
def test_each_thing_that_is_away_is_said_beside_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPENDMETER_CLICKHOUSE_URL", raising=False)
    shown = spendmeter("status", exit_code=1)
    assert "\nclickhouse" not in shown, "nobody has named one"
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", "http://127.0.0.1:1")
    shown = spendmeter("status", exit_code=1)
    assert "no ClickHouse answers at http://127.0.0.1:1" in shown
    assert "1 broker, version" in shown
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    assert "nothing answers at 127.0.0.1:1" in spendmeter("status", exit_code=1)


def test_topics_that_are_not_there_are_missing(
    kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", topic_prefix)

    assert f"there is no topic {topic_prefix}spend.usage" in spendmeter("status", exit_code=1)
