"""kill -9 of the sink at random moments: raw row counts, without FINAL, stay exact."""

import asyncio
import os
import random
import sys
from decimal import Decimal
from pathlib import Path

from clickhouse_connect.driver.client import Client

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter_local.children import kill_child, start_child
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.builders import usage
from tests.integration.sinks.conftest import Eventually

KILLS = int(os.environ.get("SPENDMETER_TEST_KILLS", "5"))
EVENTS_PER_KILL = 2_000
# Of the kills so many must fall between a plan and its end; a machine that is busy elsewhere needs more.
HITS, MOST_KILLS = KILLS // 2, 6 * KILLS
CHUNK = 100
SEED = int(os.environ.get("SPENDMETER_TEST_SEED", "20261122"))


def environment(settings: SinkSettings) -> dict[str, str]:
    return {
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
        "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_SINK_INSTANCE": "only",
        "SPENDMETER_SINK_LINGER_MS": "20",
        "SPENDMETER_SINK_MAX_BATCH_ROWS": "1000",
    }


async def test_raw_rows_are_exact_after_kills_at_random_moments(
    settings: SinkSettings, history: Client, eventually: Eventually, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    kafka = producer(settings)
    await kafka.start()

    async def traffic(first: int) -> None:
        """About a second of events. What a batch holds depends on when the sink looks."""
        topic = settings.topic(Topic.USAGE)
        for start in range(first, first + EVENTS_PER_KILL, CHUNK):
            records = [encode_usage(usage(n, n, key=f"k{n % 50}")) for n in range(start, start + CHUNK)]
            sent = [await kafka.send(topic, key=r.key, value=r.value, headers=r.headers) for r in records]
            await asyncio.gather(*sent)
            await asyncio.sleep(0.03)

    # Else they would quietly take away the doubled rows that we look for.
    history.command("SYSTEM STOP MERGES usage")
    log = tmp_path / "sink.log"
    command = [sys.executable, "-m", "spendmeter_sinks"]
    try:
        kill = 0
        while kill < KILLS or (_hits(log) < HITS and kill < MOST_KILLS):
            child = start_child(command, log=log, env=environment(settings))
            await eventually(f"SELECT count() >= {kill * EVENTS_PER_KILL} FROM usage", [(True,)])
            producing = asyncio.create_task(traffic(1 + kill * EVENTS_PER_KILL))
            await asyncio.sleep(dice.uniform(0.1, 0.6))
            kill_child(child)
            await producing
            kill += 1
        events = kill * EVENTS_PER_KILL
        child = start_child(command, log=log, env=environment(settings))
        await eventually(f"SELECT count() >= {events} FROM usage", [(True,)])
    finally:
        kill_child(child)
        await kafka.stop()

    raw = "SELECT count(), uniqExact(event_id), sum(cost_usd) FROM usage"
    exact = [(events, events, Decimal(events * (events + 1) // 2).scaleb(-9))]
    assert history.query(raw).result_rows == exact, f"seed {SEED}"
    assert _hits(log) >= HITS, "the kills missed the moments between a plan and its end"


def _hits(log: Path) -> int:
    """How often a restarted sink found a plan that was not carried out."""
    return log.read_text().count(" repeating ")
