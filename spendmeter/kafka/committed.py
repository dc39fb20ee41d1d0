"""A group's committed offsets; a wrong or still loading coordinator never counts as "nothing committed".

From version 2 of the request on, aiokafka 0.14.0 ignores the error for a whole answer. If a
coordinator has moved, it reports only that error and no partitions, which then seems to be a group that has
read nothing; its members would read everything again. In version 1 each partition has an error, which
aiokafka checks. tests/cluster/test_moved_coordinator.py shows both.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchRequest_v1
from aiokafka.structs import OffsetAndMetadata

RETRY_SECONDS = 0.2
WITHIN_SECONDS = 10.0


def heed_each_partitions_error() -> None:
    """From now on every consumer of this process uses the version whose errors aiokafka checks."""
    OffsetFetchRequest._CLASSES = (OffsetFetchRequest_v1,)


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's committed offsets, without partitions for which it has committed nothing.

    Retries for WITHIN_SECONDS while the coordinator moves or loads.

    Raises:
        KafkaError: the group's coordinator did not answer.
    """
    partitions_by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, partition in partitions:
        partitions_by_topic[topic].append(partition)
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while True:
        try:
            return await _ask(admin, group, partitions_by_topic)
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _ask(
    admin: AIOKafkaAdminClient, group: str, partitions_by_topic: dict[str, list[int]]
) -> dict[TopicPartition, OffsetAndMetadata]:
    heed_each_partitions_error()
    coordinator = await admin.find_coordinator(group)
    answer = await admin._send_request(
        OffsetFetchRequest(group, list(partitions_by_topic.items())), coordinator
    )
    found: dict[TopicPartition, OffsetAndMetadata] = {}
    for topic, partitions in answer.topics:
        for partition, offset, metadata, code in partitions:
            if code:
                raise for_code(code)(f"{group} at {topic}:{partition}")
            if offset >= 0:
                found[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)
    return found
