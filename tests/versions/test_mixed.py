"""Our last release and today's code at work together, as they are while an operator upgrades.

Needs a checkout of the last release after `make install`: SPENDMETER_LAST_RELEASE names its folder.
"""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spendmeter.contract.topics import Topic
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from tests.builders import budget
from tests.faults.ledger import Ledger
from tests.faults.traffic import GatewayTraffic
from tests.faults.waiting import until
from tests.integration.sinks.test_models_renamed import latest
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Worker, open_stream
from tests.patience import WITHIN_SECONDS

LAST_RELEASE = os.environ.get("SPENDMETER_LAST_RELEASE", "")
HERE = Path(__file__).parents[2]
RATE = 40.0
EVENTS = 300
"""So many more in each state of the upgrade."""
BUDGETS = [
    budget(id="everything", match={}, period="lifetime"),
    budget(id="per-key", match={"key": "*"}, period="lifetime"),
    budget(id="per-model", match={"model": "*"}, period="lifetime"),
    budget(id="by-gateway", match={"gateway": "*"}, period="month"),
]

pytestmark = pytest.mark.skipif(
    not LAST_RELEASE, reason="SPENDMETER_LAST_RELEASE names no checkout of the last release"
)


def python_of(root: Path) -> str:
    return str(root / ".venv/bin/python")


class EarlierWorker(Worker):
    python = python_of(Path(LAST_RELEASE))
    command = ("-P", "-m", "stream")


class EarlierSink(SinkProcess):
    python = python_of(Path(LAST_RELEASE))
    command = ("-P", "-m", "sinks.clickhouse")
    instance = "earlier"


@contextmanager
def gateway(root: Path, settings: SinkSettings, data: Path, name: str, port: int) -> Iterator[None]:
    """One of either release, without LiteLLM: tests/faults/gateway.py of that checkout."""
    metrics = free_port([port])
    env = {
        "PYTHONPATH": str(root),
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_GATEWAY": name,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_METRICS_PORT": str(metrics),
    }
    log = data.with_suffix(".log")
    command = [python_of(root), "-P", "-m", "tests.faults.gateway", "--port", str(port)]
    process = start_child(command, log=log, env=env)
    try:
        url = f"http://{LOOPBACK}:{metrics}/metrics"
        assert wait_until(lambda: says_ready(url), timeout_seconds=WITHIN_SECONDS), log.read_text()
        yield
    finally:
        stop_child(process, grace_seconds=30)
        kill_child(process)


def by(root: Path, settings: SinkSettings, *command: str) -> None:
    """A command of one of the two."""
    env = {
        **os.environ,
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
        "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
    }
    subprocess.run([python_of(root), "-P", "-m", *command], env=env, check=True, timeout=WITHIN_SECONDS)


def expected(ledger: Ledger) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for entry in ledger:
        assert entry.outcome == "recorded", entry
        for account in ("everything|", f"per-key|key={entry.key}", f"by-gateway|gateway={entry.source}"):
            sums[account] += entry.cost_nanousd
    return dict(sums)


async def test_old_and_new_workers_sinks_and_gateways_at_once(
    kafka: str, clickhouse: str, topic_prefix: str, database: str, tmp_path: Path
) -> None:
    last = Path(LAST_RELEASE)
    assert sys.executable == python_of(HERE), "run by the project's own .venv"
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=topic_prefix,
        clickhouse_database=database,
    )
    ledger, ports = Ledger(), [free_port()]
    ports.append(free_port(ports))
    traffic = [GatewayTraffic(f"g{n}", port, ledger, RATE, n) for n, port in enumerate(ports, start=1)]

    async def more(what: str) -> None:
        so_far = ledger.counts["recorded"]
        await until(lambda: ledger.counts["recorded"] >= so_far + EVENTS, WITHIN_SECONDS, what)

    async def settled() -> None:
        for one in traffic:
            one.pause()
        await until(lambda: all(one.is_settled for one in traffic), WITHIN_SECONDS, "every answer")
        sums = expected(ledger)
        await stream.until(Topic.SIGNALS, lambda said: sums.items() <= latest(said).items())
        for one in traffic:
            one.resume()

    async with AsyncExitStack() as ends:
        by(last, settings, "spendmeter.topics.create")
        by(last, settings, "sinks.clickhouse", "migrate")
        old_worker = EarlierWorker(settings, tmp_path, "old")
        ends.callback(old_worker.kill)
        old_sink = EarlierSink(settings, tmp_path / "old-sink.log")
        ends.callback(old_sink.kill)
        old_worker.wait_ready()
        await asyncio.to_thread(old_sink.wait_ready)
        stream = await ends.enter_async_context(open_stream(settings))
        await stream.client.apply(BUDGETS)
        first = ends.enter_context(ExitStack())
        first.enter_context(gateway(last, settings, tmp_path / "g1", "g1", ports[0]))
        running = [asyncio.create_task(one.run()) for one in traffic]
        try:
            await more("the last release alone")
            await settled()

            # As docs/operations.md says: topics and tables, then workers and sinks one at a time.
            by(HERE, settings, "spendmeter.topics.create")
            by(HERE, settings, "spendmeter_sinks", "migrate")
            await more("the last release beside new tables")
            worker = Worker(settings, tmp_path, "new")
            ends.callback(worker.kill)
            worker.wait_ready()
            sink = SinkProcess(settings, tmp_path / "sink.log")
            ends.callback(sink.kill)
            await asyncio.to_thread(sink.wait_ready)
            await more("both workers and both sinks")
            await settled()
            ends.enter_context(gateway(HERE, settings, tmp_path / "g2", "g2", ports[1]))
            await more("both gateways")
            await settled()
            old_worker.stop()
            await more("without the old worker")
            stop_child(old_sink.process, grace_seconds=30)
            await more("without the old sink")

            traffic[0].pause()
            await until(lambda: traffic[0].is_settled, WITHIN_SECONDS, "its answers")
            first.close()
            ends.enter_context(gateway(HERE, settings, tmp_path / "g1", "g1", ports[0]))
            traffic[0].resume()
            await more("today's alone, on the old outbox")
            await settled()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        history = open_client(settings, settings.clickhouse_database)
        ends.callback(history.close)
        report = await reconcile(settings, history, WindowFilter(), datetime.now(UTC), 60.0, 1.0)
        ((kept, rows),) = history.query("SELECT sum(cost_nanousd), count() FROM usage_once").result_rows
        print(f"{rows} events, {kept} nano-USD; {report.compared}; not compared: {report.not_compared}")
        assert report.equal, report.differences
        assert kept == expected(ledger)["everything|"]
