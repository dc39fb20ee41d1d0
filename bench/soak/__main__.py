"""`python -m bench.soak`: an hour of steady load on everything, and whether anything grows.

Kafka, the stream, ClickHouse and its writer as `spendmeter up` starts them, and the product's gateway in a
process of this benchmark, recording at a steady rate; every account is close to its limit, so that each
change is told. At the end `spendmeter reconcile` must find everything equal.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import click

from bench import machine
from bench.latency import CLOSE_NANOUSD, KEYS, Probe, apply_budget, drain, drive, wait_for
from bench.local import local_stack
from bench.output import OUTPUT
from bench.soak import watch
from bench.soak.report import pictures, table
from bench.soak.watch import Sample
from spendmeter.runtime.endpoints import Endpoints, find_stack
from spendmeter.settings import Settings
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.reconcile.kafka_reader import KafkaReader

PARTS = ("kafka", "clickhouse", "topics", "schema", "stream", "clickhouse-sink")
WATCHED = ("kafka", "stream", "clickhouse-sink", "clickhouse")
# The gateway and who drives it are this process.
DRIVER = "gateway"
SAMPLES = 360


@click.command(help=(__doc__ or "").replace("`", ""))
@click.option("--rate", default=1_000.0, show_default=True, help="Events a second.")
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(rate: float, minutes: float, seed: int) -> None:
    """Measure, print the table, draw the pictures."""
    facts = [*machine.describe(), f"{rate:g} events/s for {minutes:g} minutes, {KEYS} keys"]
    with tempfile.TemporaryDirectory(prefix="spendmeter-soak-") as name:
        directory = Path(name) / "stack"
        only = [option for part in PARTS for option in ("--only", part)]
        with local_stack(directory, *only) as stack:
            settings = Settings(kafka_bootstrap=stack.kafka_bootstrap)
            asyncio.run(apply_budget(settings))
            gateway = Gateway(
                GatewaySettings(kafka_bootstrap=stack.kafka_bootstrap, data_dir=Path(name) / "gateway")
            )
            gateway.start()
            try:
                samples = _load(gateway, directory, stack, settings, rate, minutes * 60, seed)
            finally:
                gateway.stop()
            reconciled = _reconcile(directory)
    facts += [f"{samples[-1].recorded:,} events", f"load average at the end: {machine.load()}"]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for file, picture in pictures(samples).items():
        (OUTPUT / file).write_text(picture)
    click.echo(table(samples, facts, reconciled))
    if reconciled != "equal":
        raise SystemExit(1)


def _load(
    gateway: Gateway,
    directory: Path,
    stack: Endpoints,
    settings: Settings,
    rate: float,
    seconds: float,
    seed: int,
) -> list[Sample]:
    wait_for("the gateway", lambda: gateway.views.are_read)
    probe = Probe(gateway)
    for key in range(KEYS):
        probe.record(f"k{key}", int(CLOSE_NANOUSD))
    drain(probe)
    probe.forget()
    driver = threading.Thread(target=drive, args=(probe, rate, seconds, random.Random(seed)), daemon=True)
    begun = time.monotonic()
    driver.start()
    samples = asyncio.run(_watch(driver, probe, directory, settings, seconds / SAMPLES, begun))
    driver.join()
    drain(probe)
    return samples


async def _watch(
    driver: threading.Thread, probe: Probe, directory: Path, settings: Settings, every: float, begun: float
) -> list[Sample]:
    samples: list[Sample] = []
    recorded = 0
    async with KafkaReader(settings) as positions:
        while driver.is_alive():
            await asyncio.sleep(every)
            pids = {name: pid for name, pid in find_stack(directory).pids.items() if name in WATCHED}
            recorded += len(probe.signal_ms)
            p50, p99 = watch.latency(probe)
            minutes = (time.monotonic() - begun) / 60
            samples.append(
                Sample(
                    minutes,
                    recorded,
                    watch.memory({**pids, DRIVER: os.getpid()}),
                    watch.cpu(pids),
                    await watch.lag(positions),
                    p50,
                    p99,
                )
            )
            click.echo(f"{samples[-1]}", err=True)
    return samples


def _reconcile(directory: Path) -> str:
    command = [sys.executable, "-c", "from spendmeter.cli.main import main; main()", "reconcile", "--json"]
    done = subprocess.run(
        [*command, "--dir", str(directory), "--wait", "120"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and json.loads(done.stdout)["equal"] is True:
        return "equal"
    return f"**{(done.stdout + done.stderr).strip()[:500]}**"


if __name__ == "__main__":
    main()
