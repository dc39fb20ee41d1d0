"""A watcher of one's own: topics and a database of its own, and checks that find what they are given."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.records import decode
from spendmeter.contract.topics import Topic
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.runtime.clickhouse import Client
from spendmeter.topics.create import create_topics
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.watch.check import finding
from spendmeter_sinks.watch.settings import WatchSettings

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(kafka: str, clickhouse: str) -> WatchSettings:
    """Settings of watchers whose topics exist; each test has checks and findings of its own names."""
    name = f"t{uuid4().hex[:12]}"
    settings = WatchSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=f"{name}.",
        clickhouse_database=name,
        partitions=1,
    )
    asyncio.run(create_topics(settings))
    return settings


@pytest.fixture(scope="module")
def history(settings: WatchSettings) -> Iterator[Client]:
    """The migrated database."""
    client = open_client(settings, database=None)
    migrate(client, settings.clickhouse_database)
    yield client
    client.close()


class Scripted:
    """A check that finds what it is given."""

    def __init__(self, name: str, run: Callable[[datetime], Sequence[Alert]]) -> None:
        self.name, self.every = name, timedelta(hours=1)
        self._run = run
        self.runs = 0

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        self.runs += 1
        return self._run(now)


def found(about: str, now: datetime) -> Alert:
    """One finding, whenever it is found."""
    return finding(AlertKind.DRIFT, about, NOW, "it", f"something of {about}", now)


async def alerts_about(settings: WatchSettings, about: str) -> list[Alert]:
    """The records of spend.alerts that begin so, in their order."""
    alerts: list[Alert] = []
    topic = settings.topic(Topic.ALERTS)
    await CompactedTopics(
        settings, [topic], lambda record: alerts.append(decode(Alert, record.value, record.headers))
    ).read_to_end()
    return [one for one in alerts if one.message.startswith(f"something of {about}")]
