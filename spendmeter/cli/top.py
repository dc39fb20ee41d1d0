"""`spendmeter top`: who spends, live."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import console, print_json, table
from spendmeter.history.usage import DIMENSIONS, WINDOWS, Spender, spend_by

REFRESH_SECONDS = 1.0


@click.command()
@click.option(
    "--by",
    type=click.Choice(list(DIMENSIONS)),
    metavar="DIMENSION",
    default="key",
    show_default=True,
    help=", ".join(DIMENSIONS),
)
@click.option("--window", type=click.Choice(list(WINDOWS)), default="hour", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--wide", is_flag=True, help="Show ids beside names.")
@click.option("--once", is_flag=True, help="Print once instead of staying.")
@dir_option
@json_option
def top(by: str, window: str, rows: int, wide: bool, once: bool, dir_: Path | None, as_json: bool) -> None:
    """Spend by key, team, model… over the last hour, day…; live, until Ctrl-C."""
    with history(clickhouse_settings(dir_)) as client:
        if as_json:
            found = spend_by(client, by, window, rows)
            return print_json([{**one._asdict(), "spent_usd": f"{one.spent_usd:f}"} for one in found])
        if once or not console().is_terminal:
            return console().print(_shown(by, window, spend_by(client, by, window, rows), wide))
        return _follow(lambda: _shown(by, window, spend_by(client, by, window, rows), wide))


def _follow(picture: Callable[[], Group]) -> None:
    try:
        with Live(picture(), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(by: str, window: str, spenders: list[Spender], wide: bool) -> Group:
    total = sum((one.spent_usd for one in spenders), start=Decimal(0))
    what = f"the last {window}, by {by.replace('_', ' ')}"
    title = Text(f"{what}   together ${total:,f}   {datetime.now(UTC):%H:%M:%S} UTC")
    if not spenders:
        return Group(title, Text("no request has finished in this time"))
    names = _names(spenders, wide)
    headings = [
        by.replace("_", " "),
        *(["id"] * wide),
        "spent (USD)",
        "",
        "requests",
        "tokens in",
        "tokens out",
    ]
    unpriced = any(one.unpriced for one in spenders)
    largest = max(one.spent_usd for one in spenders)
    rows = [
        [*name, *_row(one, largest), *([str(one.unpriced or "")] * unpriced)]
        for name, one in zip(names, spenders, strict=True)
    ]
    numbers = ("spent (USD)", "requests", "tokens in", "tokens out", "unpriced")
    return Group(title, table([*headings, *["unpriced"] * unpriced], rows, right=numbers))


def _row(one: Spender, largest: Decimal) -> list[str]:
    share = float(one.spent_usd / largest) if largest else 0.0
    return [
        f"{one.spent_usd:,f}",
        "█" * round(share * 20),
        f"{one.requests:,}",
        f"{one.input_tokens:,}",
        f"{one.output_tokens:,}",
    ]


def _names(spenders: Sequence[Spender], wide: bool) -> list[list[str]]:
    """Names as people know them; of those that share one, each has the beginning of its id."""
    shared = Counter(one.alias for one in spenders)
    if wide:
        return [[one.alias or one.name or "(none)", one.name] for one in spenders]
    return [
        [
            f"{one.alias} ({one.name[:8]})"
            if one.alias and shared[one.alias] > 1
            else one.alias or one.name or "(none)"
        ]
        for one in spenders
    ]
