"""What an earlier release of ours had written, laid into a broker and a ClickHouse as that release left them.

`golden/<version>/` is that, made by the release itself: see golden/make.py.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from clickhouse_connect.driver.client import Client

from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic
from spendmeter.kafka.client import connection, consumer, producer
from spendmeter.settings import Settings
from spendmeter.topics.create import create
from spendmeter_sinks.database.migrate import migrations

GOLDEN = Path(__file__).with_name("golden")
PREFIX = "earlier."
PARTITIONS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as it stood."""

    topic: str
    """Without the prefix."""
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True)
class Earlier:
    """What one release has left."""

    folder: Path

    @property
    def outbox(self) -> Path:
        """The data directory of a gateway that never reached Kafka."""
        return self.folder / "outbox"

    @cached_property
    def records(self) -> list[Stored]:
        """Of every topic, each partition in order."""
        return [
            Stored(
                line["topic"],
                line["partition"],
                line["offset"],
                line["timestamp_ms"],
                _bytes(line["key"]),
                _bytes(line["value"]),
                [(name, _bytes(value)) for name, value in line["headers"]],
            )
            for line in _lines(self.folder / "kafka.jsonl")
        ]

    @cached_property
    def offsets(self) -> dict[str, dict[str, int]]:
        """Group: `topic:partition`: the offset that it had committed."""
        committed: dict[str, dict[str, int]] = json.loads((self.folder / "offsets.json").read_text())
        return committed

    async def lay_into_kafka(self, settings: Settings) -> None:
        """Topics, records at their offsets and times, and what the groups had committed.

        Raises:
            AssertionError: a record did not get its own offset.
        """
        topics = sorted({record.topic for record in self.records})
        await create(settings, {settings.topic_prefix + topic: _made_as(topic) for topic in topics})
        kafka = producer(settings)
        await kafka.start()
        try:
            sent = [
                await kafka.send(
                    settings.topic_prefix + record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=record.headers,
                )
                for record in self.records
            ]
            for stored, record in zip(await asyncio.gather(*sent), self.records, strict=True):
                assert stored.offset == record.offset, (stored, record)
        finally:
            await kafka.stop()
        await _stamp_by_the_brokers_clock(settings)
        for group, offsets in self.offsets.items():
            await _commit(settings, group, offsets)

    def lay_into_clickhouse(self, client: Client, database: str) -> None:
        """The tables as the release's own files make them, and every row.

        Raises:
            AssertionError: a file that it applied reads otherwise now.
        """
        rows = list(_lines(self.folder / "clickhouse.jsonl"))
        applied = {
            row["row"]["name"]: row["row"]["sha256"] for row in rows if row["table"] == "schema_migrations"
        }
        known = {migration.name: migration for migration in migrations()}
        client.command(f"CREATE DATABASE `{database}`")
        client.database = database
        for name in sorted(applied):
            assert known[name].sha256 == applied[name], f"{name} is not as it was applied"
            for statement in known[name].statements():
                client.command(statement)
        client.command(_SCHEMA_MIGRATIONS)
        for table in sorted({row["table"] for row in rows}):
            lines = "\n".join(json.dumps(row["row"]) for row in rows if row["table"] == table)
            client.raw_insert(table, insert_block=lines.encode(), fmt="JSONEachRow")


# As each release has made it.
_SCHEMA_MIGRATIONS = """
CREATE TABLE schema_migrations
(version UInt32, name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3))
ENGINE = ReplacingMergeTree ORDER BY version
"""


def _made_as(topic: str) -> tuple[int, dict[str, str]]:
    """Its partitions and configuration, with the records' own times, however long ago they were."""
    known = next((one for one in Topic if one.value == topic), None)
    if known is None:
        return PARTITIONS, {"cleanup.policy": "compact"}
    config = {name: value for name, value in CONFIG[known].items() if name != "message.timestamp.type"}
    if config.get("retention.ms"):
        config["retention.ms"] = "-1"
    return PARTITIONS if known in PARTITIONED else 1, config


async def _stamp_by_the_brokers_clock(settings: Settings) -> None:
    """From now on: what is stored by now keeps its times."""
    name = settings.topic(Topic.USAGE)
    config = {**_made_as(Topic.USAGE)[1], "message.timestamp.type": "LogAppendTime"}
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        for answer in await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, config)]):
            assert all(code == 0 for code, *_ in answer.resources), answer
    finally:
        await admin.close()


async def _commit(settings: Settings, group: str, offsets: dict[str, int]) -> None:
    member = consumer(settings, group=group)
    await member.start()
    try:
        committed = {
            TopicPartition(
                settings.topic_prefix + place.rpartition(":")[0], int(place.rpartition(":")[2])
            ): offset
            for place, offset in offsets.items()
        }
        member.assign(list(committed))
        await member.commit(committed)
    finally:
        await member.stop()


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, file.read_text().splitlines())


def _bytes(text: str | None) -> bytes | None:
    """What make.py wrote as text, or as base64 behind a zero."""
    if text is None:
        return None
    return base64.b64decode(text[1:]) if text.startswith("\0") else text.encode()
