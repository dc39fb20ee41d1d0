"""`python -m bench.admission`: LiteLLM's own budgets and ours on the same requests, in one table.

Keys with a small limit are spent by 1, 8 and 32 clients, with and without `max_tokens`, against a fake
upstream that bills exactly what it is told to. The upstream's own count says what was spent; contenders
take turns, key by key. LiteLLM's own budgets need Postgres and Redis: `--litellm-postgres` names the scripts
that start them, `--install` the directory that those scripts have set up.
"""

import asyncio
import json
import tempfile
from pathlib import Path

import click

from bench import machine
from bench.admission.report import NOTES, document, table
from bench.admission.run import Postgres, field_of, measure
from spendmeter.contract.money import from_usd

OUTPUT = Path(".spendmeter/bench/admission.json")
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(help=(__doc__ or "").replace("`", ""))
@click.option("--litellm-postgres", "scripts", type=FOLDER, help="The folder of start.sh and stop.sh.")
@click.option("--install", type=FOLDER, help="What its setup.sh has made.")
@click.option("--callback-on-postgres/--no-callback-on-postgres", default=True, show_default=True)
@click.option("--only", multiple=True, help="Contenders by name; all by default.")
@click.option("--clients", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--keys", type=int, default=6, show_default=True, help="Per contender and load.")
@click.option("--limit-usd", default="0.02", show_default=True)
@click.option("--delay-ms", type=int, default=50, show_default=True, help="How long the upstream thinks.")
@click.option(
    "--in-a-row", type=int, default=5, show_default=True, help="Refusals per client that end a key."
)
@click.option("--seconds", type=float, default=15.0, show_default=True, help="The longest for one key.")
@click.option("--seed", type=int, default=20261122, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), default=OUTPUT, show_default=True)
def main(
    scripts: Path | None,
    install: Path | None,
    callback_on_postgres: bool,
    only: tuple[str, ...],
    clients: tuple[int, ...],
    keys: int,
    limit_usd: str,
    delay_ms: int,
    in_a_row: int,
    seconds: float,
    seed: int,
    output: Path,
) -> None:
    """Measure, print the table, write the figures."""
    facts, limit = machine.describe(), from_usd(limit_usd)
    postgres = Postgres(scripts, install, callback_on_postgres) if scripts and install else None
    loads = [(count, max_tokens) for max_tokens in (False, True) for count in clients]
    how = {"seed": seed, "delay_ms": delay_ms, "in_a_row": in_a_row, "seconds": seconds}
    with (
        tempfile.TemporaryDirectory(prefix="spendmeter-admission-") as name,
        field_of(Path(name), limit, postgres) as field,
    ):
        field.contenders[:] = [one for one in field.contenders if not only or one.name in only]
        cells = asyncio.run(measure(field, loads, keys, limit, how))
    facts.append(f"load average at the end: {machine.load()}")
    click.echo("\n".join(facts) + "\n\n" + table(cells) + "\n" + NOTES)
    for contender, why in field.absent.items():
        click.echo(f"{contender}: {why}")
    output.parent.mkdir(parents=True, exist_ok=True)
    arguments = {**how, "keys": keys, "limit_usd": limit_usd, "clients": clients}
    output.write_text(json.dumps(document(cells, facts, arguments, field.absent), indent=2) + "\n")
    click.echo(f"figures: {output}")


if __name__ == "__main__":
    main()
