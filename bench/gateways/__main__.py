"""`python -m bench.gateways`: how far 1, 2, 4 and 8 gateways overspend an account, beside the formula.

The gateways are the product's own, without LiteLLM, each with its own outbox and Kafka clients, in this
process; broker and stream worker are processes. Calls arrive at a steady total rate, take their time, and are
recorded. The formula of docs/guarantees.md is filled in with what the same round measured: calls in flight
(or held) at the moment the limit is reached, calls admitted per second before it, and the longest time from
an event's recording to the signal that tells another gateway of it.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bench import machine
from bench.gateways.overspend import Round
from bench.gateways.play import INPUT, MOST, MOST_TOKENS, TOKEN, Play, Probe
from bench.local import DidNotStart, local_stack
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.settings import Settings
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.probes import wait_until

MODES = ("settled", "strict")
NEEDED = ("kafka", "topics", "stream")
READY_WITHIN_SECONDS = 120
STRICT_WAIT_MS, ACK_WAIT_MS = 2_000, 300
OUTPUT = Path(".spendmeter/bench/gateways.json")
HEADER = (
    "| budgets | gateways | rounds | signal latency max (ms) | calls in flight at the limit | formula"
    " | overspend max | of the limit | within | refused below the limit |"
)
NOTES = """
The row is the round that overspent most; *within* counts all rounds. `strict` also refuses below the limit
where the rest, less what running calls may yet cost, does not pay for the prompt: see the last column.
"""


@click.command(help=(__doc__ or "").replace("`", ""))
@click.option("--gateways", type=int, multiple=True, default=(1, 2, 4, 8), show_default=True)
@click.option("--rounds", type=int, default=4, show_default=True, help="Per mode and number of gateways.")
@click.option("--rate", type=float, default=100.0, show_default=True, help="Calls per second, in all.")
@click.option("--calls", type=int, default=200, show_default=True, help="About so many reach the limit.")
@click.option("--seed", type=int, default=20261122, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
def main(gateways: tuple[int, ...], rounds: int, rate: float, calls: int, seed: int, output: Path) -> None:
    """Measure, print the table, write the figures."""
    facts, limit = machine.describe(), calls * (INPUT + TOKEN * MOST_TOKENS // 2)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="spendmeter-gateways-") as name:
        only = [part for needed in NEEDED for part in ("--only", needed)]
        with local_stack(Path(name) / "stack", *only) as stack:
            settings = Settings(kafka_bootstrap=stack.kafka_bootstrap)
            asyncio.run(_apply_budgets(settings, limit))
            for count in gateways:
                for mode, played in _rounds(settings, Path(name), count, rounds, limit, rate, seed):
                    rows.append(figures_of(mode, played))
    facts.append(f"load average at the end: {machine.load()}")
    click.echo("\n".join(facts) + f"\n{rate:g} calls/s in all, limit ${limit / 1e9:g}\n\n" + table(rows))
    click.echo(NOTES)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": facts, "limit_nanousd": limit, "rounds": rows}, indent=2) + "\n")
    click.echo(f"figures: {output}")


async def _apply_budgets(settings: Settings, limit_nanousd: int) -> None:
    budgets = [
        Budget.model_validate(
            {
                "id": f"bench-{mode}",
                "match": {"team": mode, "key": "*"},
                "limit_nanousd": limit_nanousd,
                "period": "lifetime",
                "enforcement": mode,
                "updated_at": datetime.now(UTC),
            }
        )
        for mode in MODES
    ]
    async with connect(settings) as client:
        await client.apply(budgets)


def _rounds(
    settings: Settings, directory: Path, count: int, rounds: int, limit: int, rate: float, seed: int
) -> Iterator[tuple[str, Round]]:
    """The modes in turn, each round on an account of its own."""
    own = {
        "kafka_bootstrap": settings.kafka_bootstrap,
        "strict_wait_ms": STRICT_WAIT_MS,
        "ack_wait_ms": ACK_WAIT_MS,
    }
    made = [
        Gateway(
            GatewaySettings.model_validate(
                {**own, "gateway": f"g{number}", "data_dir": directory / f"{count}-{number}"}
            )
        )
        for number in range(count)
    ]
    try:
        for gateway in made:
            gateway.start()
        if not wait_until(
            lambda: all(one.views.are_read for one in made), timeout_seconds=READY_WITHIN_SECONDS
        ):
            raise DidNotStart("gateways have not read the budgets")
        probes = [Probe(number, gateway) for number, gateway in enumerate(made)]
        for number in range(rounds):
            for mode in MODES:
                key = f"{mode}-{count}-{number}"
                yield mode, asyncio.run(Play(probes, mode, key, limit, rate, seed + number).run())
    finally:
        for gateway in made:
            gateway.stop()


def figures_of(mode: str, played: Round) -> dict[str, Any]:
    """What one round measured, and what the formula makes of it."""
    bound, overspend = played.bound_nanousd(mode, MOST, ACK_WAIT_MS / 1000), played.overspend_nanousd()
    return {
        "mode": mode,
        "gateways": played.gateways,
        "served": len(played.recorded),
        "refused": len(played.refused_at),
        "refused_below_limit": played.false_refusals(),
        "limit_nanousd": played.limit_nanousd,
        "latency_ms": played.latency_seconds() * 1000,
        "in_flight": played.in_flight(),
        "formula_nanousd": bound,
        "overspend_nanousd": overspend,
        "within": overspend <= bound,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Per mode and number of gateways, the round that overspent most, and whether all were within."""
    lines = [HEADER, "|" + "---|" * (HEADER.count("|") - 1)]
    for mode in MODES:
        for count in sorted({row["gateways"] for row in rows}):
            of = [row for row in rows if (row["mode"], row["gateways"]) == (mode, count)]
            worst = max(of, key=lambda row: row["overspend_nanousd"])
            share = 100 * worst["overspend_nanousd"] / worst["limit_nanousd"]
            lines.append(
                f"| {mode} | {count} | {len(of)} | {max(row['latency_ms'] for row in of):.0f}"
                f" | {worst['in_flight']} | ${worst['formula_nanousd'] / 1e9:.4f}"
                f" | ${worst['overspend_nanousd'] / 1e9:.4f} | {share:.1f} %"
                f" | {sum(row['within'] for row in of)} of {len(of)}"
                f" | {sum(row['refused_below_limit'] for row in of)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
