"""The consumer groups, and their committed offsets."""

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import admin_client
from spendmeter.kafka.committed import committed
from spendmeter.settings import Settings

STREAM_GROUP = "spend-stream"
"""Faust's app id, which also begins the names of its changelogs: stream/spendmeter_stream/settings.py."""
SINK_GROUP = "spend-clickhouse-sink"
ALERTS_GROUP = "spend-alerts"
"""Begins the name of each route's group: sinks/spendmeter_sinks/alerts/route_relay.py."""
STREAM_TOPICS = (Topic.USAGE, Topic.TOTALS)
SINK_TOPICS = (
    Topic.USAGE,
    Topic.SIGNALS,
    Topic.ALERTS,
    Topic.DELIVERIES,
    Topic.BUDGETS,
    Topic.DECISIONS,
    Topic.DEAD_LETTERS,
)
"""What each group reads and commits."""
POLL_SECONDS = 0.2


async def committed_by(
    settings: Settings, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Like `committed`, with its own connection."""
    admin = admin_client(settings)
    try:
        await admin.start()
        return await committed(admin, settings.topic_prefix + group, partitions)
    finally:
        await admin.close()


async def behind(
    admin: AIOKafkaAdminClient, settings: Settings, group: str, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The group's offsets in partitions where it has not committed these offsets; -1 for none."""
    if not ends:
        return {}
    found = await committed(admin, settings.topic_prefix + group, ends)
    at = {p: found[p].offset if p in found else -1 for p in ends}
    return {p: at[p] for p in ends if max(at[p], 0) < ends[p]}


async def wait_until_passed(
    admin: AIOKafkaAdminClient,
    settings: Settings,
    group: str,
    ends: Mapping[TopicPartition, int],
    within_seconds: float,
) -> dict[TopicPartition, int]:
    """Return once the group has committed all these offsets, or the time is over; then returns its
    offsets.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_seconds
    while True:
        left = await behind(admin, settings, group, ends)
        if not left or clock() >= deadline:
            return left
        await asyncio.sleep(POLL_SECONDS)
