"""`python -m bench.gateway`: what it costs a request that spendmeter is there.

The callback's own hooks, called as LiteLLM calls them, with real budgets and signals read from a real
broker; then the same with the broker frozen, and with the broker dead.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.broker import RunningBroker, running_broker
from bench.gateway.report import Goal, alone_goals, table, times_goals
from bench.gateway.topics import fill
from bench.machine import describe, load
from bench.output import tell
from spendmeter.settings import Settings

STARTS = 3
# Long enough that every request of the gateway's to Kafka hangs or has failed.
SILENCE_SECONDS = 3.0
START_TIMEOUT_SECONDS = 180
WARM_UP_CALLS = 500
# One has all in the processor's caches; of many, each comes back when little of it is left there.
KEYS_ALONE = (1, 5_000)


@click.command()
@click.option("--budgets", default=10_000, show_default=True)
@click.option("--accounts", default=100_000, show_default=True, help="Live signals.")
@click.option("--calls", default=10_000, show_default=True, help="Of each kind, and for each state of Kafka.")
def main(budgets: int, accounts: int, calls: int) -> None:
    """Measure the gateway side; writes .spendmeter/bench/gateway.md."""
    facts = [*describe(), f"{budgets:,} budgets, {accounts:,} live accounts, {calls:,} calls of each kind"]
    with running_broker("gateway") as broker, tempfile.TemporaryDirectory() as scratch:
        goals = _starts(broker, budgets, accounts, Path(scratch))
        goals += asyncio.run(_hooks(broker, budgets, calls, Path(scratch)))
    facts.append(f"load average at the end: {load()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    told = table(goals, facts)
    tell("gateway.md", told)


def _settings(broker: RunningBroker, prefix: str) -> Settings:
    return Settings(kafka_bootstrap=broker.bootstrap, topic_prefix=prefix)


def _starts(broker: RunningBroker, budgets: int, accounts: int, scratch: Path) -> list[Goal]:
    """Starts with and without signals, in turns, each a process of its own."""
    for prefix, count in (("few.", 0), ("many.", accounts)):
        _say(f"writing {budgets:,} budgets and {count:,} signals")
        asyncio.run(fill(_settings(broker, prefix), budgets, count))
    told: dict[str, list[dict[str, Any]]] = {"few.": [], "many.": []}
    for turn in range(STARTS):
        for prefix, starts in told.items():
            starts.append(_start(broker, prefix, scratch / f"{prefix}{turn}"))
            _say(f"start: {starts[-1]}")
    if any(start["windows"] != accounts for start in told["many."]):
        raise SystemExit("WRONG: not every signal was read")
    seconds = [start["seconds"] for start in told["many."]]
    bytes_each = (median(s["kib"] for s in told["many."]) - median(s["kib"] for s in told["few."])) * 1024
    return [
        Goal(f"start with {accounts:,} live signals, ready", "s", median(seconds), 5.0, max(seconds)),
        Goal("the same, processor time", "s", median(start["cpu_seconds"] for start in told["many."])),
        Goal("memory per account", "bytes", bytes_each / accounts, 1024.0),
    ]


def _start(broker: RunningBroker, prefix: str, data: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.gateway.start"],
        env={**os.environ, **_environment(broker, prefix, data)},
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_SECONDS,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _environment(broker: RunningBroker, prefix: str, data: Path) -> dict[str, str]:
    return {
        "SPENDMETER_KAFKA_BOOTSTRAP": broker.bootstrap,
        "SPENDMETER_TOPIC_PREFIX": prefix,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_GATEWAY": "bench",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


async def _hooks(broker: RunningBroker, budgets: int, calls: int, scratch: Path) -> list[Goal]:
    # The callback reads its settings when it is imported, as in a proxy.
    os.environ.update(_environment(broker, "many.", scratch / "hooks"))
    from bench.gateway.calls import Caller, Measured
    from bench.gateway.world import Requests
    from spendmeter_gateway import callback

    await callback.budgets_read()
    async with asyncio.timeout(START_TIMEOUT_SECONDS):
        # They are read on the gateway's own loop, whose events are not to be awaited from here.
        while not callback._gateway().views.are_read:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    caller = Caller(callback, Requests(budgets))
    first = max(KEYS_ALONE)
    await caller.serve(range(first, first + WARM_UP_CALLS), Measured())
    goals: list[Goal] = []
    first += WARM_UP_CALLS
    for state, change in (
        ("Kafka there", None),
        ("Kafka frozen", signal.SIGSTOP),
        ("Kafka dead", signal.SIGKILL),
    ):
        if change is not None:
            os.kill(broker.pid, change)
            await asyncio.sleep(SILENCE_SECONDS)
        measured = Measured()
        await caller.serve(range(first, first + calls), measured)
        first += calls
        goals += times_goals(state, measured)
        for keys in KEYS_ALONE:
            goals += alone_goals(
                f"{state}: decision alone, {keys:,} keys in turn", await caller.alone(keys, calls)
            )
        _say(f"{state}: measured")
    kept, blocks = await caller.allocations(range(first, first + 2_000))
    goals += [Goal(what, "bytes", value) for what, value in kept.items()]
    goals.append(Goal("settled look keeps", "blocks", blocks))
    await callback.close()
    return goals


def _say(what: str) -> None:
    click.echo(f"{datetime.now(UTC):%H:%M:%S} {what}", err=True)


if __name__ == "__main__":
    main()
