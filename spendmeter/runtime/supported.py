"""The servers that this version is tested with (docs/reference/versions.md), and the warnings about others.

Another server is no reason not to start: it may well work, but nobody has tested it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.admin import ApiVersionRequest

from spendmeter.kafka.client import connection
from spendmeter.settings import Settings

OLDEST_KAFKA, NEWEST_KAFKA = "3.9", "4.4"
OLDEST_CLICKHOUSE, NEWEST_CLICKHOUSE = "24.8", "26.9"

# A broker does not report its version. This request has had this version since 3.9.0.
_LIST_OFFSETS, _SINCE_OLDEST = 2, 9
_PAGE = "docs/reference/versions.md"


def clickhouse_warning(version: str) -> str | None:
    """The warning about a ClickHouse with this `version`, such as `24.8.4.1`; None if it is supported."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        return None
    given = int(found[1]), int(found[2])
    if given < _release(OLDEST_CLICKHOUSE):
        return (
            f"ClickHouse is {version}, older than {OLDEST_CLICKHOUSE}, the oldest that history is tested on:"
            f" upgrade ClickHouse ({_PAGE})"
        )
    if given > _release(NEWEST_CLICKHOUSE):
        return (
            f"ClickHouse is {version}, newer than {NEWEST_CLICKHOUSE}, the newest that history is tested on:"
            f" a newer spendmeter may be ({_PAGE})"
        )
    return None


def kafka_warning(api_versions: Iterable[tuple[int, int, int]]) -> str | None:
    """The warning about a broker that serves these requests (key, lowest and highest version), if any."""
    highest = max((high for key, _, high in api_versions if key == _LIST_OFFSETS), default=0)
    if highest >= _SINCE_OLDEST:
        return None
    return (
        f"Kafka is older than {OLDEST_KAFKA}, the oldest that spendmeter is tested on:"
        f" upgrade the brokers ({_PAGE})"
    )


class KafkaDescription(NamedTuple):
    """The brokers of a cluster."""

    brokers: int
    version: str
    """As far as its requests show it."""
    warning: str | None


def kafka_version(api_versions: Iterable[tuple[int, int, int]]) -> str:
    """The release of a broker that serves these requests, as far as they show it."""
    highest = max((high for key, _, high in api_versions if key == _LIST_OFFSETS), default=0)
    if highest < _SINCE_OLDEST:
        return f"older than {OLDEST_KAFKA}"
    return {9: "3.9", 10: "4.0 or newer"}.get(highest, "newer than 4.1")


async def warning_of_kafka(settings: Settings) -> str | None:
    """The same for a broker of this cluster.

    Raises:
        aiokafka.errors.KafkaError: no broker can be reached.
    """
    return (await describe_kafka(settings)).warning


async def describe_kafka(settings: Settings) -> KafkaDescription:
    """The brokers of this cluster, and the version of one.

    Raises:
        aiokafka.errors.KafkaError: no broker can be reached.
    """
    client = AIOKafkaClient(**connection(settings))
    try:
        await client.bootstrap()
        node = client.get_random_node()
        if node is None or not await client.ready(node):
            raise NodeNotReadyError("no broker")
        response = await client.send(node, ApiVersionRequest())
        served = response.api_versions
        return KafkaDescription(len(client.cluster.brokers()), kafka_version(served), kafka_warning(served))
    finally:
        await client.close()


def _release(text: str) -> tuple[int, int]:
    year, month = text.split(".")
    return int(year), int(month)
