"""`spendmeter topics`: every topic, before any worker starts.

A Faust worker that joins before a source topic exists ignores that topic for ever, so this is a
separate step. It may be run again at any time.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaTimeoutError, TopicAlreadyExistsError, for_code

from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic
from spendmeter.kafka.client import admin_client
from spendmeter.runtime import logs
from spendmeter.runtime.process import exiting_with_message
from spendmeter.settings import Settings, load

log = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 0.05
MAX_ATTEMPTS = 600


async def create_topics(settings: Settings) -> None:
    """Create the missing topics of the contract; existing ones stay unchanged.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    await create(
        settings,
        {settings.topic(t): (settings.partitions if t in PARTITIONED else 1, CONFIG[t]) for t in Topic},
    )


async def create(settings: Settings, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
    """Create topics given as name: (partitions, configuration), unless they exist.

    Returns once the brokers know them.
    """
    admin = admin_client(settings)
    await admin.start()
    try:
        await _until_led(admin)
        response = await admin.create_topics(
            [
                NewTopic(name, partitions, settings.replication, topic_configs=dict(config))
                for name, (partitions, config) in wanted.items()
            ]
        )
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"{name}: {message[0] if message else ''}")
        await _until_known(admin, list(wanted))
    finally:
        await admin.close()


async def partitions_of(settings: Settings, names: Collection[str]) -> dict[str, int]:
    """The number of partitions of each of these topics; missing topics are left out.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached.
    """
    admin = admin_client(settings)
    await admin.start()
    try:
        there = sorted(set(names) & set(await admin.list_topics()))
        described = await admin.describe_topics(there) if there else []
        # A topic with an error was deleted since it was listed.
        return {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
    finally:
        await admin.close()


async def _until_led(admin: AIOKafkaAdminClient) -> None:
    """Wait until a broker is the controller: without one aiokafka ends with an AttributeError."""
    for _ in range(MAX_ATTEMPTS):
        if (await admin.describe_cluster())["controller_id"] >= 0:
            return
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    raise KafkaTimeoutError("no broker is the cluster's controller; see the brokers' logs for its election")


async def _until_known(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until the brokers know the topics: the controller answers before they do."""
    for _ in range(MAX_ATTEMPTS):
        unknown = [
            topic["topic"]
            for topic in await admin.describe_topics(names)
            if topic["error_code"] or not topic["partitions"]
        ]
        if not unknown:
            return
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    raise KafkaTimeoutError(f"created, but not known to the brokers: {', '.join(unknown)}")


def main() -> None:
    settings = load(Settings)
    logs.configure(settings)
    with exiting_with_message(settings):
        asyncio.run(create_topics(settings))
    log.info("topics are there: %s", ", ".join(settings.topic(t) for t in Topic))


if __name__ == "__main__":
    main()
