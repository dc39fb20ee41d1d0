"""The present state of a topic according to the brokers: incarnation, partitions, configuration.

An offset means something only within one incarnation of a topic. Kafka gives each topic an id when it is
created (KIP-516). A topic that was deleted and created anew has another id, and so has a topic of the same
name in another cluster.
"""

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import Collection, Iterator, Mapping
from time import monotonic
from typing import Any, NamedTuple, Protocol

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from spendmeter.kafka.client import admin_client, start
from spendmeter.kafka.described import NO_TOPIC_ID, DetailedMetadataRequest
from spendmeter.settings import Settings

NO_INCARNATION = ""
"""For data of versions without incarnations, and for brokers before Kafka 2.8, which have none."""


class TopicState(NamedTuple):
    """The present state of a topic."""

    incarnation: str
    """Kafka's id of the topic, as Kafka prints it."""
    partitions: int


class KafkaClient(Protocol):
    """The inner client of each aiokafka client, as far as it is needed here."""

    def get_random_node(self) -> Any: ...

    async def send(self, node_id: Any, request: Any) -> Any: ...


async def topic_states(client: KafkaClient, names: Collection[str]) -> dict[str, TopicState]:
    """The present state of each of these topics; missing topics are left out.

    `client` is a started aiokafka client's own (`producer.client`, `consumer._client`).

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    if not names:
        return {}
    node = client.get_random_node()
    try:
        response = await client.send(node, DetailedMetadataRequest(sorted(names)))
    except NotImplementedError:
        # aiokafka raises this for a broker before Kafka 2.8.
        response = await client.send(node, MetadataRequest(sorted(names), False))
    found: dict[str, TopicState] = {}
    for topic in response.to_object()["topics"]:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            continue
        if topic["error_code"]:
            raise error(topic["topic"])
        topic_id = _printed(topic.get("topic_id", NO_TOPIC_ID))
        found[topic["topic"]] = TopicState(topic_id, len(topic["partitions"]))
    return found


async def lookup_topics(settings: Settings, names: Collection[str]) -> dict[str, TopicState]:
    """Like `topic_states`, with its own connection.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    admin = admin_client(settings)
    try:
        await start(admin)
        return await topic_states(admin._client, names)
    finally:
        await admin.close()


def _printed(topic_id: bytes) -> str:
    """The form that Kafka's own tools print."""
    return NO_INCARNATION if topic_id == NO_TOPIC_ID else urlsafe_b64encode(topic_id).decode().rstrip("=")


log = logging.getLogger(__name__)

WATCH_EVERY_SECONDS = 2.0
SAY_EVERY_SECONDS = 60.0


async def until_changed(
    settings: Settings, names: Collection[str], known: Mapping[str, TopicState]
) -> dict[str, TopicState]:
    """Return the new states once one of these topics differs from its known state.

    While Kafka is away, no change is assumed.
    """
    while True:
        admin = admin_client(settings)
        try:
            await start(admin)
            while True:
                now = await topic_states(admin._client, names)
                if now != known:
                    return now
                await asyncio.sleep(WATCH_EVERY_SECONDS)
        except KafkaError as error:
            log.debug("cannot read the state of topics, trying again: %r", error)
        finally:
            await admin.close()
        await asyncio.sleep(WATCH_EVERY_SECONDS)


def changes(known: Mapping[str, TopicState], now: Mapping[str, TopicState]) -> Iterator[str]:
    """The changes of topics for people, one clause each."""
    for name, before in known.items():
        after = now.get(name)
        if after is None:
            yield f"there is no topic {name} any more"
        elif after.incarnation != before.incarnation:
            ids = f"its id is {after.incarnation}, it was {before.incarnation}"
            yield f"{name} was deleted and created anew: {ids}"
        elif after.partitions != before.partitions:
            yield f"{name} has {after.partitions} partitions, it had {before.partitions}"


class Said:
    """Logs a sentence that an operator must read: at once, and then once a minute while it stays true."""

    def __init__(self, logger: logging.Logger) -> None:
        self._log = logger
        self._last: tuple[str, float] | None = None

    def say(self, sentence: str) -> None:
        """Log it, unless it was logged within the minute."""
        now = monotonic()
        if self._last is None or self._last[0] != sentence or now - self._last[1] >= SAY_EVERY_SECONDS:
            self._last = (sentence, now)
            self._log.error("%s", sentence)
