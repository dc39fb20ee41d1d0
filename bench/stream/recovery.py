"""How long a worker takes to be ready again when its tables hold a million accounts, and what they weigh.

Both changelogs are written first, as a worker would have left them: one tally and one judged state for each
account. Then a worker is started; it is ready once it has read them, built its meters and judges, and knows
the budgets. The time of one that has nothing to read stands beside it.
Run: python -m bench.stream.recovery
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import NamedTuple
from uuid import UUID

import click

from bench.broker import RunningBroker, running_broker
from bench.machine import describe
from bench.output import OUTPUT, tell
from bench.processes import cpu_seconds, peak_mib
from bench.stream.job import key_name
from bench.stream.meter import KEY_HOUR
from spendmeter.client import connect
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import BudgetBook
from spendmeter.kafka.client import partition_of, producer
from spendmeter.topics.create import create, create_topics
from spendmeter.values.account import account_name
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from spendmeter_stream.output_writer import ProducerRecord, publish
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import (
    ACCOUNT,
    JUDGE_TABLE,
    METER_TABLE,
    TALLY,
    AccountState,
    AccountWindow,
    ChangelogEntry,
    CounterKey,
    PartitionSum,
    TotalComponent,
)

AT_MOST_SECONDS, AT_MOST_MIB = 8.4, 1024
"""1.5 times what Kafka Streams took for a million entries in memory, on the machine of the first trial."""
READY_WITHIN_SECONDS = 300
WRITTEN_AT_ONCE = 20_000


class Start(NamedTuple):
    """From the start of the process until it is ready."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@click.command()
@click.option("--accounts", default=1_000_000, show_default=True)
def main(accounts: int) -> None:
    """Measure a start with so many accounts and one with none; writes .spendmeter/bench/recovery.md."""
    told = ["## Stream: ready again after a restart", "", *(f"- {fact}" for fact in describe()), ""]
    told += [
        "| accounts | ready after, s | processor time, s | peak MiB | goal |",
        "|---:|---:|---:|---:|---|",
    ]
    with running_broker("recovery") as broker:
        for count in (0, accounts):
            settings = StreamSettings(kafka_bootstrap=broker.bootstrap, topic_prefix=f"recovery-{count}.")
            asyncio.run(_prepare(settings, count))
            start = _start(settings, broker)
            reached = start.seconds <= AT_MOST_SECONDS and start.peak_mib <= AT_MOST_MIB
            verdict = (
                f"≤ {AT_MOST_SECONDS} s, ≤ {AT_MOST_MIB} MiB: {'reached' if reached else '**not reached**'}"
            )
            told.append(
                f"| {count:,} | {start.seconds:.1f} | {start.cpu_seconds:.1f} | {start.peak_mib:,.0f} |"
                f" {verdict if count else ''} |"
            )
    tell("recovery.md", "\n".join(told) + "\n")


async def _prepare(settings: StreamSettings, accounts: int) -> None:
    """Topics, a budget, and changelogs with so many accounts."""
    await create_topics(settings)
    tables = (METER_TABLE, JUDGE_TABLE)
    compacted = {"cleanup.policy": "compact"}
    await create(settings, {settings.changelog(t): (settings.partitions, compacted) for t in tables})
    async with connect(settings, by="bench") as client:
        await client.apply([KEY_HOUR])
    kafka = producer(settings)
    await kafka.start()
    try:
        records: list[ProducerRecord] = []
        for record in _records(settings, accounts):
            records.append(record)
            if len(records) >= WRITTEN_AT_ONCE:
                await publish(kafka, records)
                records.clear()
        await publish(kafka, records)
    finally:
        await kafka.stop()


def _records(settings: StreamSettings, accounts: int) -> Iterator[ProducerRecord]:
    book = BudgetBook([KEY_HOUR])
    window = book.window_of(KEY_HOUR, datetime.now(UTC))
    assert window is not None, "an hour has begun"
    shape = book.shape_of(KEY_HOUR)
    for n in range(accounts):
        account = account_name(KEY_HOUR.id, [("key", key_name(n))])
        tally = PartitionSum(NanoUsd(1_000 + n), 3, 0, n, UUID(int=n), window.end)
        counted = ChangelogEntry(TALLY + CounterKey(account, window.start, shape).suffix(), tally.value())
        at = partition_of(account, settings.partitions)
        state = AccountState({at: TotalComponent(n, NanoUsd(1_000 + n), 3, 0)}, UUID(int=n))
        judged = ChangelogEntry(ACCOUNT + AccountWindow(account, window.start).suffix(), state.value())
        for table, entry in ((METER_TABLE, counted), (JUDGE_TABLE, judged)):
            yield ProducerRecord(settings.changelog(table), at, *entry, [])


def _start(settings: StreamSettings, broker: RunningBroker) -> Start:
    port = free_port()
    env = {
        **os.environ,
        "SPENDMETER_KAFKA_BOOTSTRAP": broker.bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_DATA_DIR": str(OUTPUT / "runs" / settings.topic_prefix),
        "SPENDMETER_METRICS_PORT": str(port),
    }
    log = OUTPUT / "runs" / f"{settings.topic_prefix}log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = monotonic()
    child = start_child([sys.executable, "-m", "spendmeter_stream"], log=log, env=env)
    try:
        is_ready = partial(says_ready, f"http://{LOOPBACK}:{port}/metrics")
        if not wait_until(is_ready, timeout_seconds=READY_WITHIN_SECONDS):
            raise click.ClickException(f"not ready after {READY_WITHIN_SECONDS} s: see {log}")
        return Start(monotonic() - began, cpu_seconds(child.pid), peak_mib(child.pid))
    finally:
        kill_child(child)


if __name__ == "__main__":
    main()
