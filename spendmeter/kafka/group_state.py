"""What consumer groups do: their members, and how far they are behind, in records and in seconds."""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from spendmeter.kafka.client import admin_client, consumer, start
from spendmeter.kafka.committed import RETRY_SECONDS, WITHIN_SECONDS, committed
from spendmeter.kafka.described import DescribedGroup, GroupMember, describe_group
from spendmeter.settings import Settings

FIRST_UNREAD_WITHIN_SECONDS = 5.0
_POLL_MS = 200


class TopicLag(NamedTuple):
    """How far a group is behind in a topic."""

    topic: str
    records: int
    seconds: float | None
    """Since the oldest unread record was stored; None if there is none, or it could not be read in time."""


class GroupState(NamedTuple):
    """What a group does now."""

    name: str
    state: str
    """Kafka's: Stable, Empty, PreparingRebalance, …; Dead: there is none of that name."""
    members: list[GroupMember]
    lags: list[TopicLag]
    """Of each topic that exists."""

    @property
    def records(self) -> int:
        return sum(lag.records for lag in self.lags)

    @property
    def seconds(self) -> float | None:
        return max((lag.seconds for lag in self.lags if lag.seconds is not None), default=None)


async def group_states(
    settings: Settings, read_by: Mapping[str, Collection[TopicPartition]]
) -> list[GroupState]:
    """The state of each group, given the partitions that it reads, which exist; names are those in Kafka.

    Raises:
        KafkaError: the broker cannot be reached or refuses.
    """
    admin, reader = admin_client(settings), consumer(settings)
    try:
        await start(admin)
        await start(reader)
        return [await _state(admin, reader, group, partitions) for group, partitions in read_by.items()]
    finally:
        await reader.stop()
        await admin.close()


async def groups_beginning(settings: Settings, name: str) -> list[str]:
    """The groups whose names begin so. Raises KafkaError."""
    admin = admin_client(settings)
    try:
        await start(admin)
        return sorted(group for group, _ in await admin.list_consumer_groups() if group.startswith(name))
    finally:
        await admin.close()


async def _state(
    admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, group: str, partitions: Collection[TopicPartition]
) -> GroupState:
    described = await _described(admin, group)
    ends = await reader.end_offsets(partitions) if partitions else {}
    begins = await reader.beginning_offsets(partitions) if partitions else {}
    at = {p: found.offset for p, found in (await committed(admin, group, partitions)).items()}
    unread = {p: max(at.get(p, 0), begins[p]) for p in partitions if max(at.get(p, 0), begins[p]) < ends[p]}
    oldest = await _oldest(reader, unread)
    now = time.time()
    lags = []
    for topic in sorted({p.topic for p in partitions}):
        of_topic = [p for p in unread if p.topic == topic]
        times = [oldest[p] for p in of_topic if p in oldest]
        seconds = max(0.0, now - min(times)) if times else None
        lags.append(TopicLag(topic, sum(ends[p] - unread[p] for p in of_topic), seconds))
    return GroupState(group, *described, lags)


async def _described(admin: AIOKafkaAdminClient, group: str) -> DescribedGroup:
    """Retries for WITHIN_SECONDS while the coordinator moves, loads, or is the first of its cluster."""
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while True:
        try:
            return await describe_group(admin, group)
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _oldest(
    reader: AIOKafkaConsumer, unread: Mapping[TopicPartition, int]
) -> dict[TopicPartition, float]:
    """When the first unread record of each partition was stored, in seconds since 1970."""
    found: dict[TopicPartition, float] = {}
    if not unread:
        return found
    reader.assign([*unread])
    for partition, offset in unread.items():
        reader.seek(partition, offset)
    deadline = asyncio.get_running_loop().time() + FIRST_UNREAD_WITHIN_SECONDS
    while waiting := [p for p in unread if p not in found]:
        if asyncio.get_running_loop().time() >= deadline:
            break
        batches = await reader.getmany(*waiting, timeout_ms=_POLL_MS, max_records=len(waiting))
        found |= {partition: records[0].timestamp / 1000 for partition, records in batches.items() if records}
        reader.pause(*batches)
    reader.unsubscribe()
    return found
