"""Publishing: everything a batch leads to, stored by the brokers before the batch counts as done."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata


class ProducerRecord(NamedTuple):
    """One record; its partition is always the caller's decision."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


Publish = Callable[[Iterable[ProducerRecord]], Awaitable[dict[tuple[str, int], int]]]
"""`publish` with its producer."""


async def publish(kafka: AIOKafkaProducer, records: Iterable[ProducerRecord]) -> dict[tuple[str, int], int]:
    """Send records, in order within each partition, and wait until all of them are stored.

    Whole batches are handed over, because one call of the client per record costs more than
    everything else a record costs. Returns the offset of the last record of each partition.

    Raises:
        KafkaError: a batch was refused for good; nobody knows how much of the rest is stored.
    """
    by_partition: dict[tuple[str, int], list[ProducerRecord]] = defaultdict(list)
    for record in records:
        by_partition[record.topic, record.partition].append(record)
    handed = [await _hand_over(kafka, *where, batch) for where, batch in by_partition.items()]
    last: dict[tuple[str, int], int] = {}
    for where, futures in zip(by_partition, handed, strict=True):
        for future, count in futures:
            metadata: RecordMetadata = await future
            last[where] = metadata.offset + count - 1
    return last


async def _hand_over(
    kafka: AIOKafkaProducer, topic: str, partition: int, records: list[ProducerRecord]
) -> list[tuple[asyncio.Future[RecordMetadata], int]]:
    sent = []
    batch, count = kafka.create_batch(), 0
    for record in records:
        while (
            batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None
        ):
            if count == 0:
                raise ValueError(f"a record of {len(record.value or b'')} bytes for {topic} fits no batch")
            sent.append((await kafka.send_batch(batch, topic, partition=partition), count))
            batch, count = kafka.create_batch(), 0
        count += 1
    sent.append((await kafka.send_batch(batch, topic, partition=partition), count))
    return sent
