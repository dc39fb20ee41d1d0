"""How long a changed budget takes to be in force at every gateway: raise, lower, pause, resume, reset.

Timed from the call of the client to the moment at which the last gateway's own book has the revision,
with usage flowing. Run: python -m bench.changes --gateways 4 --changes 200
"""

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from bench.broker import running_broker
from bench.latency import record, share
from bench.machine import describe
from spendmeter.client import SpendmeterClient, connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.probes import wait_until

BUDGET = "per-key"
WITHIN_SECONDS = 30.0
LOOK_SECONDS = 0.0002
EVENTS_PER_SECOND = 100


def _changes(client: SpendmeterClient, number: int) -> Awaitable[Budget]:
    made: list[Callable[[], Awaitable[Budget]]] = [
        lambda: client.set_limit(BUDGET, from_usd(str(100 + number))),
        lambda: client.raise_limit(BUDGET, from_usd("1"), datetime.now(UTC) + timedelta(seconds=1)),
        lambda: client.pause(BUDGET),
        lambda: client.resume(BUDGET),
        lambda: client.reset(BUDGET),
    ]
    return made[number % len(made)]()


async def measured(settings: Settings, gateways: list[Gateway], changes: int) -> list[float]:
    """Milliseconds, one for each change."""
    fields = {"id": BUDGET, "match": {"key": "*"}, "period": "day", "limit_nanousd": from_usd("1")}
    took: list[float] = []
    async with connect(settings) as client:
        await client.apply([Budget.model_validate(fields | {"updated_at": datetime.now(UTC)})])
        for number in range(changes):
            begun = time.perf_counter()
            changed = await _changes(client, number)
            deadline = begun + WITHIN_SECONDS
            while not all(_has(gateway, changed) for gateway in gateways):
                if time.perf_counter() > deadline:
                    raise click.ClickException(f"{changed} is not in force after {WITHIN_SECONDS} s")
                await asyncio.sleep(LOOK_SECONDS)
            took.append((time.perf_counter() - begun) * 1000)
    return took


def _has(gateway: Gateway, budget: Budget) -> bool:
    known = gateway.views.budgets.book.get(budget.id)
    return known is not None and known.revision >= budget.revision


def _flow(gateways: list[Gateway], stop: threading.Event) -> None:
    chance = random.Random(1)
    while not stop.wait(1 / EVENTS_PER_SECOND):
        record(chance.choice(gateways), f"k{chance.randrange(100)}", 1_000)


@click.command()
@click.option("--gateways", "count", type=int, default=4, show_default=True)
@click.option("--changes", type=int, default=200, show_default=True)
def main(count: int, changes: int) -> None:
    """Print how long changes took."""
    with tempfile.TemporaryDirectory() as name, running_broker("changes") as broker:
        settings = Settings(kafka_bootstrap=broker.bootstrap)
        asyncio.run(create_topics(settings))
        gateways = [
            Gateway(GatewaySettings(kafka_bootstrap=broker.bootstrap, data_dir=Path(name) / str(number)))
            for number in range(count)
        ]
        stop = threading.Event()
        flow = threading.Thread(target=_flow, args=(gateways, stop))
        try:
            for gateway in gateways:
                gateway.start()
            if not wait_until(lambda: all(g.views.are_read for g in gateways), timeout_seconds=60):
                raise click.ClickException("the gateways did not become ready")
            flow.start()
            took = asyncio.run(measured(settings, gateways, changes))
        finally:
            stop.set()
            if flow.is_alive():
                flow.join()
            for gateway in gateways:
                gateway.stop()
    click.echo("\n".join(f"- {fact}" for fact in describe()) + "\n")
    click.echo("| gateways | changes | p50 ms | p99 ms | longest ms |\n|---|---|---|---|---|")
    click.echo(
        f"| {count} | {changes} | {share(took, 0.5):.1f} | {share(took, 0.99):.1f} | {max(took):.1f} |"
    )


if __name__ == "__main__":
    main()
