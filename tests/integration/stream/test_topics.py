"""A worker that is told of other topics than there are does not start, and says why."""

import asyncio

import pytest

from spendmeter.contract.topics import Topic
from spendmeter.topics.create import create_topics, partitions_of
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.topics import WrongTopics, prepare, prepared
from tests.integration.kafka.test_topic_check import configure
from tests.patience import WITHIN_SECONDS


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> StreamSettings:
    return StreamSettings(kafka_bootstrap=kafka, topic_prefix=topic_prefix)


async def test_without_topics_it_says_how_to_create_them_and_makes_no_changelog(
    settings: StreamSettings,
) -> None:
    with pytest.raises(WrongTopics, match="spendmeter topics"):
        await prepare(settings)

    assert await partitions_of(settings, [settings.changelog("meter")]) == {}


async def test_topics_of_other_partitions_are_refused_and_those_that_are_as_said_are_not(
    settings: StreamSettings,
) -> None:
    await create_topics(settings)
    more = settings.model_copy(update={"partitions": settings.partitions + 1})

    with pytest.raises(WrongTopics, match=f"{settings.topic(Topic.USAGE)} has {settings.partitions}"):
        await prepare(more)
    await prepare(settings)
    await prepare(settings)

    changelogs = [settings.changelog(table) for table in ("meter", "judge")]
    assert await partitions_of(settings, changelogs) == dict.fromkeys(changelogs, settings.partitions)


async def test_a_worker_waits_for_topics_to_be_mended_and_says_what_is_wrong(
    settings: StreamSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await create_topics(settings)
    await configure(settings, Topic.TOTALS, {"cleanup.policy": "delete"})
    waiting = asyncio.create_task(prepared(settings))
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            while "not ready" not in caplog.text:
                assert not waiting.done()
                await asyncio.sleep(0.05)
        assert (
            f"--entity-name {settings.topic(Topic.TOTALS)} --add-config cleanup.policy=compact" in caplog.text
        )
        await configure(settings, Topic.TOTALS, {})
        async with asyncio.timeout(WITHIN_SECONDS):
            assert settings.topic(Topic.USAGE) in await waiting
    finally:
        waiting.cancel()
