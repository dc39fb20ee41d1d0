"""What a group has committed: never "nothing" because the wrong broker was asked, or one that still loads.

aiokafka 0.14.0 overlooks the error that stands for a whole answer, from version 2 of the request on: a
coordinator that has moved says that, names no partition, and that is taken for a group that has read nothing.
Whoever believes it reads everything again. Version 1 has an error for each partition, which aiokafka heeds.
tests/cluster/test_moved_coordinator.py shows both.
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
    """From now on every consumer of this process asks in the way whose errors aiokafka heeds."""
    OffsetFetchRequest._CLASSES = (OffsetFetchRequest_v1,)


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Where the group stands, without the partitions for which it has committed nothing.

    Asks again, for WITHIN_SECONDS, while the coordinator moves or loads.

    Raises:
        KafkaError: the group's coordinator did not say.
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
