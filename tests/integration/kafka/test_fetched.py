"""A real log, read with our records and with aiokafka's own: they must not differ in anything."""

from dataclasses import fields
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.structs import ConsumerRecord

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import connection, consumer
from spendmeter.kafka.fetch import FetchedRecord, FetchedRecords, fetch_cheaply
from spendmeter.settings import Settings

STOCK = FetchedRecords.__base__
KEPT, ABORTED = 25, 10


@pytest.mark.parametrize("isolation_level", ["read_uncommitted", "read_committed"])
async def test_a_log_with_holes_is_read_as_by_the_library(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, isolation_level: str
) -> None:
    partition = TopicPartition(settings.topic(Topic.USAGE), 1)
    await append(settings, partition)
    monkeypatch.setattr(fetcher, "PartitionRecords", STOCK)
    expected, their_end = await read(settings, partition, isolation_level)
    fetch_cheaply()
    found, our_end = await read(settings, partition, isolation_level)

    assert {type(record) for record in expected} == {ConsumerRecord}
    assert {type(record) for record in found} == {FetchedRecord}
    assert [told(record) for record in found] == [told(record) for record in expected]
    assert our_end == their_end
    offsets = [record.offset for record in found]
    assert len(offsets) == 2 * KEPT + (ABORTED if isolation_level == "read_uncommitted" else 0)
    assert offsets[-1] - offsets[0] >= len(offsets), "the log has no hole"


async def append(settings: Settings, partition: TopicPartition) -> None:
    """Two transactions that count and one that was aborted: three markers that nobody is handed."""
    kafka = AIOKafkaProducer(
        **connection(settings), transactional_id=settings.topic_prefix, compression_type="lz4"
    )
    await kafka.start()
    try:
        for count, is_kept in ((KEPT, True), (ABORTED, False), (KEPT, True)):
            await kafka.begin_transaction()
            for n in range(count):
                await kafka.send(
                    partition.topic,
                    partition=partition.partition,
                    key=None if n % 3 else b"key",
                    value=b"" if n % 4 else b"value" * n,
                    headers=[("ce_type", b"x"), ("content-type", b"")][: n % 3],
                )
            await kafka.flush()
            await (kafka.commit_transaction() if is_kept else kafka.abort_transaction())
    finally:
        await kafka.stop()


async def read(settings: Settings, partition: TopicPartition, isolation_level: str) -> tuple[list[Any], int]:
    """The records of the partition, and where reading would go on."""
    kafka = consumer(settings, isolation_level=isolation_level)
    await kafka.start()
    try:
        kafka.assign([partition])
        end = (await kafka.end_offsets([partition]))[partition]
        records: list[Any] = []
        for _ in range(1_000):
            if await kafka.position(partition) >= end:
                break
            # Few at once, so that a fetch is left and taken up again.
            for found in (await kafka.getmany(timeout_ms=200, max_records=7)).values():
                records += found
        return records, await kafka.position(partition)
    finally:
        await kafka.stop()


def told(record: Any) -> dict[str, Any]:
    """Every field that aiokafka's record has."""
    values = {field.name: getattr(record, field.name) for field in fields(ConsumerRecord)}
    return values | {"headers": tuple(values["headers"])}
