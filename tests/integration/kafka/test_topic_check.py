"""Topics that are not as they must be are named, with the command that mends them; all others are not."""

import asyncio
import re
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from spendmeter.contract.topics import CONFIG, Topic
from spendmeter.kafka.client import connection
from spendmeter.settings import Settings
from spendmeter.topics.check import check_topics
from spendmeter.topics.create import ASK_AGAIN_SECONDS, MAX_ATTEMPTS


async def test_topics_as_we_make_them_are_right(settings: Settings) -> None:
    checked = await check_topics(settings, list(Topic))

    assert checked.findings == []
    assert {settings.topic(topic) for topic in Topic} == set(checked.states)


async def test_each_wrong_setting_is_named_with_the_command_that_mends_it(settings: Settings) -> None:
    wrong = {
        Topic.USAGE: {"message.timestamp.type": "CreateTime", "retention.ms": "86400000"},
        Topic.TOTALS: {"cleanup.policy": "delete"},
        Topic.OBJECTS: {"cleanup.policy": "compact"},
        Topic.DEAD_LETTERS: {"retention.ms": "86400000", "max.message.bytes": "1048588"},
        Topic.ALERTS: {"max.message.bytes": "1000"},
        # Compaction would take all but the last event of each key.
        Topic.DECISIONS: {"cleanup.policy": "compact"},
    }
    for topic, config in wrong.items():
        await configure(settings, topic, config)

    checked = await check_topics(settings, list(Topic))

    named = {(name, key): found for found in checked.findings for name, key in [named_in(found.sentence)]}
    assert set(named) == {(settings.topic(t), key) for t, config in wrong.items() for key in config}
    fatal = {key for found in named.items() if found[1].is_fatal for key in [found[0]]}
    assert {key for _, key in fatal} == {"message.timestamp.type", "cleanup.policy"}
    assert "message.timestamp.type=LogAppendTime" in checked.fatal
    assert len(checked.warnings) == len(named) - len(fatal)

    for topic in wrong:
        await configure(settings, topic, {})
    assert (await check_topics(settings, list(Topic))).findings == []


async def test_missing_topics_and_other_partitions_are_fatal(settings: Settings) -> None:
    others = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}none."})
    assert "spendmeter topics" in (await check_topics(others, [Topic.USAGE])).fatal

    more = settings.model_copy(update={"partitions": settings.partitions + 1})
    assert "SPENDMETER_PARTITIONS is 5" in (await check_topics(more, [Topic.USAGE])).fatal
    assert not (await check_topics(more, list(Topic), whatever_partitions=True)).findings


def named_in(sentence: str) -> tuple[str, str]:
    """The topic and the setting that the command in the sentence is about."""
    found = re.search(r"--entity-name (\S+) --add-config ([a-z.]+)=(\S+)`", sentence)
    assert found is not None, sentence
    return found[1], found[2]


async def configure(settings: Settings, topic: Topic, config: Mapping[str, str]) -> None:
    """Give the topic its own configuration, but for these; returns once the broker says so."""
    wanted, name = {**CONFIG[topic], **config}, settings.topic(topic)
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
        resource = ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(wanted))
        for _ in range(MAX_ATTEMPTS):
            (response,) = await admin.describe_configs([resource])
            ((*_, entries),) = response.resources
            if {entry[0]: entry[1] for entry in entries} == wanted:
                return
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        raise AssertionError(f"{name} is not configured as asked")
    finally:
        await admin.close()
