"""`python -m tests.faults.alerts --file FILE`: a consumer of alerts as anybody may write it.

It writes down what it was told of, then commits: a kill in between tells it again, by the same id.
"""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path

import click
from aiokafka.errors import KafkaError

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import consumer
from spendmeter.runtime import logs
from spendmeter.settings import Settings, load
from tests.faults.traffic import MAX_COST_NANOUSD

GROUP = "fault-alerts"
POLL_MS = 500
BUDGET = "alerting"
WARN_AT_PERCENT = range(1, 100)


def alerting_limit(events: int) -> int:
    """nano-USD, of a budget that is about spent when so many events have been recorded."""
    return max(1, events) * MAX_COST_NANOUSD // 2


def crossed(limit_nanousd: int, spent_nanousd: int) -> int:
    """How many of the budget's thresholds have been reached: so many alerts there must have been."""
    return sum(100 * spent_nanousd >= percent * limit_nanousd for percent in WARN_AT_PERCENT)


def alert_id_of(value: bytes | None) -> str | None:
    """The id of an alert at a threshold of the run's budget; None for anything else on the topic."""
    with suppress(ValueError, KeyError, TypeError):
        alert = json.loads(value or b"null")
        if alert["kind"] == "threshold" and alert["signal"]["budget_id"] == BUDGET:
            return str(alert["alert_id"])
    return None


async def run(settings: Settings, path: Path) -> None:
    """Read until killed. Raises KafkaError where Kafka does not answer at the start."""
    topic = settings.topic(Topic.ALERTS)
    kafka = consumer(settings, group=GROUP, session_timeout_ms=6_000)
    kafka.subscribe([topic])
    await kafka.start()
    with path.open("ab") as file:
        while True:
            batches = await kafka.getmany(timeout_ms=POLL_MS)
            for records in batches.values():
                for record in records:
                    if found := alert_id_of(record.value):
                        file.write(f"{found}\n".encode())
            if batches:
                file.flush()
                os.fsync(file.fileno())
                # The next one commits these, too.
                with suppress(KafkaError):
                    await kafka.commit()


@click.command()
@click.option("--file", "path", type=click.Path(path_type=Path), required=True)
def main(path: Path) -> None:
    """Write down the id of each alert."""
    settings = load(Settings)
    logs.configure(settings)
    asyncio.run(run(settings, path))


if __name__ == "__main__":
    main()
