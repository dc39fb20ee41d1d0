"""Records that people's changes are: sent signed, where there is a key to sign with."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from spendmeter.contract.signing import SigningKeys
from spendmeter.kafka.client import partition_of_key


async def queue_signed(
    kafka: AIOKafkaProducer,
    keys: SigningKeys,
    topic: str,
    key: bytes,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> "asyncio.Future[RecordMetadata]":
    """Queue the record in its key's partition: done once every in-sync replica has it. Raises KafkaError."""
    # A signature names the partition: a copy elsewhere would be somebody else's.
    partition = partition_of_key(key, len(await kafka.partitions_for(topic)))
    signature = keys.sign(topic, partition, key, value, headers)
    queued: asyncio.Future[RecordMetadata] = await kafka.send(
        topic, key=key, value=value, headers=[*headers, *signature], partition=partition
    )
    return queued
