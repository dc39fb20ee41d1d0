"""A worker that is told of other topics than there are does not start, and says why."""

import pytest

from spendmeter.contract.topics import Topic
from spendmeter.runtime.create_topics import create_topics, partitions_of
from stream.settings import StreamSettings
from stream.topics import WrongTopics, prepare


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> StreamSettings:
    return StreamSettings(kafka_bootstrap=kafka, topic_prefix=topic_prefix)


async def test_without_topics_it_says_how_to_create_them_and_makes_no_changelog(
    settings: StreamSettings,
) -> None:
    with pytest.raises(WrongTopics, match="create_topics"):
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
