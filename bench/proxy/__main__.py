"""`python -m bench.proxy`: what LiteLLM serves, alone and with what meters it, in one interleaved run.

All proxies are up at once and take turns under 1, 8 and 64 clients. The upstream answers at once, so what is
seen is the proxy. Kafka, the stream, ClickHouse and its writer are on the same machine while ours is
measured; the proxy's own processor time per request is the figure that they do not blur.
"""

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import click

from bench import machine
from bench.local import local_stack
from bench.proxy.contenders import Field, field_of
from bench.proxy.drive import Turn, turn
from bench.proxy.report import table
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.settings import Settings

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
PARTS = ("kafka", "clickhouse", "upstream", "topics", "schema", "stream", "clickhouse-sink")
WARM_UP_SECONDS = 5.0
MATCHES = ({"key": "*"}, {"model": "*"}, {"gateway": "*"})


@click.command(help=(__doc__ or "").replace("`", ""))
@click.option("--clients", type=int, multiple=True, default=(1, 8, 64), show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--seconds", type=float, default=8.0, show_default=True, help="Of one turn.")
@click.option("--litellm-postgres", "scripts", type=FOLDER, help="The folder of start.sh and stop.sh.")
@click.option("--install", type=FOLDER, help="What its setup.sh has made.")
def main(
    clients: tuple[int, ...], rounds: int, seconds: float, scripts: Path | None, install: Path | None
) -> None:
    """Measure and print the table."""
    facts = machine.describe()
    with tempfile.TemporaryDirectory(prefix="spendmeter-proxy-") as name:
        directory = Path(name)
        only = [option for part in PARTS for option in ("--only", part)]
        with local_stack(directory / "stack", *only) as stack:
            asyncio.run(_apply_budgets(stack.kafka_bootstrap))
            postgres = (scripts, install) if scripts and install else None
            with field_of(directory, stack, postgres) as field:
                turns = asyncio.run(_play(field, clients, rounds, seconds))
    facts.append(f"load average at the end: {machine.load()}")
    click.echo(table(turns, facts, field.absent))
    if any(one.failed for one in turns):
        raise SystemExit("requests failed")


async def _apply_budgets(kafka: str) -> None:
    """Three that every request falls under, with room for all of them."""
    budgets = [
        Budget.model_validate(
            {
                "id": f"bench-{next(iter(match))}",
                "match": match,
                "limit_nanousd": from_usd("100000"),
                "period": "day",
                "updated_at": datetime.now(UTC),
            }
        )
        for match in MATCHES
    ]
    async with connect(Settings(kafka_bootstrap=kafka)) as client:
        await client.apply(budgets)


async def _play(field: Field, loads: tuple[int, ...], rounds: int, seconds: float) -> list[Turn]:
    turns = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as http:
        for contender in field.contenders:
            # What LiteLLM imports and caches at its first requests is not what is compared.
            await turn(http, contender, 8, WARM_UP_SECONDS)
        for number in range(rounds):
            for clients in loads:
                # Nobody always comes after the same other.
                first = number % len(field.contenders)
                for contender in field.contenders[first:] + field.contenders[:first]:
                    turns.append(await turn(http, contender, clients, seconds))
                    click.echo(f"{turns[-1]}", err=True)
    return turns


if __name__ == "__main__":
    main()
