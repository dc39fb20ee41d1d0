"""What the brokers say of a topic: made anew it has another incarnation, with more partitions the same."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import connection
from spendmeter.settings import Settings
from spendmeter.topics.create import ASK_AGAIN_SECONDS, MAX_ATTEMPTS, create_topics
from spendmeter.topics.state import TopicState, lookup_topics


async def test_a_topic_made_anew_has_another_incarnation_and_with_more_partitions_the_same(
    settings: Settings,
) -> None:
    usage, totals = settings.topic(Topic.USAGE), settings.topic(Topic.TOTALS)
    before = await lookup_topics(settings, [usage, totals, "no-such-topic"])

    assert set(before) == {usage, totals}
    assert before[usage].partitions == settings.partitions
    assert len(before[usage].incarnation) == 22
    assert before[usage].incarnation != before[totals].incarnation
    assert await lookup_topics(settings, [usage, totals]) == before

    await make_anew(settings, totals)
    await add_partitions(settings, usage, 7)

    after = await lookup_topics(settings, [usage, totals])
    assert after[usage] == TopicState(before[usage].incarnation, 7)
    assert after[totals].incarnation not in (before[totals].incarnation, "")


async def make_anew(settings: Settings, name: str) -> None:
    """Delete a topic and make it again."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.delete_topics([name])
        # The name is free once the brokers have let it go.
        for _ in range(MAX_ATTEMPTS):
            if name not in await admin.list_topics():
                break
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        await create_topics(settings)
    finally:
        await admin.close()


async def add_partitions(settings: Settings, name: str, partitions: int) -> None:
    """What `kafka-topics.sh --alter --partitions` does; returns once the brokers say so."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.create_partitions({name: NewPartitions(partitions)})
        for _ in range(MAX_ATTEMPTS):
            if (await lookup_topics(settings, [name]))[name].partitions == partitions:
                break
            await asyncio.sleep(ASK_AGAIN_SECONDS)
    finally:
        await admin.close()
