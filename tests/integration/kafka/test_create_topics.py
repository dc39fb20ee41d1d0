"""create_topics on the real broker: everything there, as configured, however often it runs."""

from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic
from spendmeter.kafka.client import connection
from spendmeter.settings import Settings
from spendmeter.topics.create import create, create_topics


async def described(settings: Settings, names: list[str]) -> tuple[dict[str, int], dict[str, dict[str, str]]]:
    """Partitions by topic, and the configuration that the broker uses by topic."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        topics: list[dict[str, Any]] = await admin.describe_topics(names)
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await admin.describe_configs(asked)
    finally:
        await admin.close()
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in topics}
    config = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    return partitions, config


async def test_every_topic_is_there_as_the_contract_configures_it(settings: Settings) -> None:
    names = {topic: settings.topic(topic) for topic in Topic}

    partitions, config = await described(settings, list(names.values()))

    assert partitions == {
        name: settings.partitions if topic in PARTITIONED else 1 for topic, name in names.items()
    }
    for topic, name in names.items():
        assert CONFIG[topic].items() <= config[name].items()


async def test_a_second_run_leaves_what_is_there_as_it_is(settings: Settings) -> None:
    more = settings.model_copy(update={"partitions": settings.partitions + 3})
    names = [settings.topic(topic) for topic in Topic]
    before = await described(settings, names)

    await create_topics(more)

    assert await described(settings, names) == before


async def test_what_is_missing_is_created_beside_what_is_there(settings: Settings) -> None:
    there, missing = settings.topic(Topic.USAGE), settings.topic(Topic.USAGE) + ".more"

    await create(settings, {there: (9, {}), missing: (2, {"retention.ms": "1000"})})

    partitions, config = await described(settings, [there, missing])
    assert partitions == {there: settings.partitions, missing: 2}
    assert config[missing]["retention.ms"] == "1000"


async def test_what_the_broker_refuses_is_an_error_that_names_the_topic(settings: Settings) -> None:
    name = settings.topic(Topic.USAGE) + ".wrong"

    with pytest.raises(KafkaError, match=name):
        await create(settings, {name: (1, {"cleanup.policy": "keep it all"})})
