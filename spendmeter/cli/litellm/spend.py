"""Sending what LiteLLM has counted before us: from its daily sums, less what history has."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from spendmeter.cli.connection import cluster_settings, history, run
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.history.usage import read_known
from spendmeter.kafka.client import producer
from spendmeter.litellm.api import LitellmApi
from spendmeter.litellm.spend import events_of, source_of, spent_of
from spendmeter.settings import ClickHouseSettings


def missing_spend(api: LitellmApi, since: date, dir_: Path | None) -> list[UsageEvent]:
    """The events that history lacks. Raises NotAnswered, click.ClickException."""
    settings = cluster_settings(dir_)
    today, source = datetime.now(UTC).date(), source_of(api.url)
    spent = list(spent_of(api.spent_by_day(since, today)))
    keys = {row["token"]: row for row in api.virtual_keys()}
    with history(settings) as client:
        known = read_known(client, settings.topic(Topic.USAGE), source, since)
    return events_of(spent, known, keys, source, today)


def send_spend(events: Sequence[UsageEvent], dir_: Path | None) -> None:
    """Return once Kafka has stored them all; the same ones again are dropped as resends."""
    settings = cluster_settings(dir_)
    run(lambda: _send(settings, events), settings, failed="Kafka did not acknowledge the spend so far")


async def _send(settings: ClickHouseSettings, events: Sequence[UsageEvent]) -> None:
    kafka = producer(settings)
    try:
        await kafka.start()
        for event in events:
            record = encode_usage(event)
            name = settings.topic(Topic.USAGE)
            # One after the other: the numbers of a key must arrive in their order.
            await kafka.send_and_wait(name, key=record.key, value=record.value, headers=record.headers)
    finally:
        await kafka.stop()
