"""How fast history is kept: usage events from Kafka into ClickHouse, by the sink as it runs in production.

A real broker, the real engine in a process of its own, every guarantee on: plans written first, tokens, one
block per insert. The result is held against sums that the generator made. Run: python -m bench.sink
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from shutil import rmtree
from statistics import median
from subprocess import Popen
from time import monotonic

import click
from clickhouse_connect.driver.client import Client

from bench.broker import NotReadyError, RunningBroker, running_broker
from bench.machine import describe
from bench.output import OUTPUT
from bench.processes import cpu_seconds, peak_mib
from bench.stream.place import Place, load
from spendmeter.kafka.client import consumer
from spendmeter.kafka.groups import SINK_GROUP
from spendmeter_local.children import start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate

GOAL_ROWS_PER_CPU_SECOND = 100_000
READY_WITHIN_SECONDS = 120
DONE_WITHIN_SECONDS = 600
STOP_SECONDS = 20
DIRECTORY = OUTPUT / "sink"


@dataclass(frozen=True, slots=True)
class Run:
    """One reading of the topic from its beginning to its end, from ready to the last row."""

    rows: int
    seconds: float
    sink_cpu: float
    engine_cpu: float
    broker_cpu: float
    peak_mib: float
    wrong: str | None

    def figures(self) -> tuple[float, ...]:
        """Rows a second, rows per second of the sink's processor time, CPU-seconds per million, MiB."""
        per_million = 1e6 / self.rows
        return (
            self.rows / self.seconds,
            self.rows / self.sink_cpu,
            self.sink_cpu * per_million,
            self.engine_cpu * per_million,
            self.broker_cpu * per_million,
            self.peak_mib,
        )


COLUMNS = (
    ("rows/s", ",.0f"),
    ("rows per CPU-s of the sink", ",.0f"),
    ("sink's CPU-s per million", ".1f"),
    ("engine's", ".1f"),
    ("broker's", ".1f"),
    ("sink's peak MiB", ",.0f"),
)


@click.command()
@click.option("--events", default=300_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(events: int, rounds: int) -> None:
    """Measure the sink; fails if a row is missing, double or wrong."""
    facts = describe()
    rmtree(DIRECTORY, ignore_errors=True)
    with running_broker("sink") as broker, _engine() as (url, engine):
        _say(f"loading {events:,} events")
        place = asyncio.run(load(broker.bootstrap, events))
        runs = []
        for turn in range(rounds):
            runs.append(measure(place, broker, url, engine, f"bench_{turn}"))
            _say(" ".join(f"{figure:,.1f}" for figure in runs[-1].figures()))
    facts.append(f"{events:,} events, {rounds} rounds, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    click.echo(table(runs, facts))
    if any(run.wrong for run in runs):
        raise SystemExit(1)


def measure(place: Place, broker: RunningBroker, url: str, engine: Popen[bytes], database: str) -> Run:
    """Keep the whole topic in a new database."""
    port = free_port()
    settings = SinkSettings(
        kafka_bootstrap=place.bootstrap,
        topic_prefix=place.prefix,
        clickhouse_url=url,
        clickhouse_database=database,
        metrics_port=port,
    )
    client = open_client(settings, database=None)
    migrate(client, database)
    asyncio.run(_rewind(place, settings))
    with _child("sink", _command("spendmeter_sinks"), _environment(settings)) as sink:
        _wait("the sink", lambda: says_ready(f"http://{LOOPBACK}:{port}/metrics"), READY_WITHIN_SECONDS)
        began, spent = monotonic(), _spent(sink, engine, broker)
        _wait("its last row", lambda: _rows(client, database) >= place.count, DONE_WITHIN_SECONDS)
        seconds = monotonic() - began
        used = _spent(sink, engine, broker)
        peak = peak_mib(sink.pid)
    wrong = _differs(client, database, place)
    client.close()
    sink_cpu, engine_cpu, broker_cpu = (after - before for before, after in zip(spent, used, strict=True))
    return Run(place.count, seconds, sink_cpu, engine_cpu, broker_cpu, peak, wrong)


def table(runs: Sequence[Run], facts: Sequence[str]) -> str:
    """Markdown: what it was measured on, and the medians with the least and the most."""
    cells = []
    for (_, form), values in zip(COLUMNS, zip(*(run.figures() for run in runs), strict=True), strict=True):
        middle, least, most = (format(value, form) for value in (median(values), min(values), max(values)))
        cells.append(f"{middle} ({least}–{most})")
    wrong = next((run.wrong for run in runs if run.wrong), None)
    reached = median(run.rows / run.sink_cpu for run in runs) / GOAL_ROWS_PER_CPU_SECOND
    lines = ["## Sink: usage events to history", "", *(f"- {fact}" for fact in facts), ""]
    lines += [
        "| result | " + " | ".join(name for name, _ in COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    lines += [f"| {f'**WRONG**: {wrong}' if wrong else 'exact'} | " + " | ".join(cells) + " |", ""]
    lines += [f"Of the goal of {GOAL_ROWS_PER_CPU_SECOND:,} rows per CPU-second: {reached:.2f} ×."]
    return "\n".join(lines) + "\n"


def _spent(sink: Popen[bytes], engine: Popen[bytes], broker: RunningBroker) -> list[float]:
    return [cpu_seconds(session) for session in (sink.pid, engine.pid, broker.pid)]


def _rows(client: Client, database: str) -> int:
    return int(client.query(f"SELECT count() FROM {database}.usage").result_rows[0][0])


def _differs(client: Client, database: str, place: Place) -> str | None:
    """What history says otherwise than the generator; no FINAL, so that a double row is seen."""
    found = client.query(
        f"SELECT count(), uniqExact(event_id), toInt64(sum(cost_nanousd)) FROM {database}.usage"
    ).result_rows[0]
    spent = sum(place.sums.by_key_and_hour.values())
    wanted = (place.count, place.count, spent)
    return None if tuple(found) == wanted else f"rows, ids, nano-USD: {found}, not {wanted}"


async def _rewind(place: Place, settings: SinkSettings) -> None:
    """Put the sink's group back to the beginning of the topic."""
    kafka = consumer(settings, group=SINK_GROUP)
    await kafka.start()
    try:
        kafka.assign(list(place.ends))
        await kafka.commit(dict.fromkeys(place.ends, 0))
    finally:
        await kafka.stop()


@contextmanager
def _engine() -> Iterator[tuple[str, Popen[bytes]]]:
    port = free_port()
    address, password = f"{LOOPBACK}:{port}", token_hex(8)
    command = _command("spendmeter_local.clickhouse", "--path", str(DIRECTORY / "data"), "--port", str(port))
    with _child("engine", command, {"SPENDMETER_CLICKHOUSE_PASSWORD": password}) as child:
        _wait("the engine", lambda: http_answers(f"http://{address}/ping"), READY_WITHIN_SECONDS)
        yield f"http://default:{password}@{address}", child
    rmtree(DIRECTORY / "data", ignore_errors=True)


@contextmanager
def _child(name: str, command: Sequence[str], env: dict[str, str]) -> Iterator[Popen[bytes]]:
    child = start_child(command, log=DIRECTORY / f"{name}.log", env=env)
    try:
        yield child
    finally:
        # In order: else the group waits for a session that nobody ends, and the next round with it.
        stop_child(child, grace_seconds=STOP_SECONDS)


def _environment(settings: SinkSettings) -> dict[str, str]:
    names = ("kafka_bootstrap", "topic_prefix", "clickhouse_url", "clickhouse_database", "metrics_port")
    return {f"SPENDMETER_{name.upper()}": str(getattr(settings, name)) for name in names}


def _command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _wait(what: str, condition: Callable[[], bool], seconds: float) -> None:
    if not wait_until(condition, timeout_seconds=seconds):
        raise NotReadyError(f"{what} did not come within {seconds:g} s; see {DIRECTORY}")


def _say(what: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {what}", err=True)


if __name__ == "__main__":
    main()
