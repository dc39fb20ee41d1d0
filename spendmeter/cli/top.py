"""`spendmeter top`: who spends, live."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import click
from clickhouse_connect.driver.exceptions import Error
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spendmeter.cli.connection import clickhouse_settings
from spendmeter.cli.printing import console, print_json, table
from spendmeter.cli.stack import dir_option, json_option
from spendmeter.runtime import clickhouse
from spendmeter.spend_by import DIMENSIONS, WINDOWS, Spender, spend_by

REFRESH_SECONDS = 1.0


@click.command()
@click.option("--by", type=click.Choice(list(DIMENSIONS)), default="key", show_default=True)
@click.option("--window", type=click.Choice(list(WINDOWS)), default="hour", show_default=True)
@click.option("--rows", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--once", is_flag=True, help="Print once instead of staying.")
@dir_option
@json_option
def top(by: str, window: str, rows: int, once: bool, dir_: Path | None, as_json: bool) -> None:
    """Spend by key, team, model… over the last hour, day…; live, until Ctrl-C."""
    settings = clickhouse_settings(dir_)
    try:
        client = clickhouse.reader(settings)
    except Error as error:
        raise _told(error) from None

    def look() -> list[Spender]:
        try:
            return spend_by(client, by, window, rows)
        except Error as error:
            raise _told(error) from None

    if as_json:
        return print_json([{**one._asdict(), "spent_usd": f"{one.spent_usd:f}"} for one in look()])
    if once or not console().is_terminal:
        return console().print(_shown(by, window, look()))
    return _follow(lambda: _shown(by, window, look()))


def _follow(picture: Callable[[], Group]) -> None:
    try:
        with Live(picture(), console=console(), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(picture(), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(by: str, window: str, spenders: list[Spender]) -> Group:
    total = sum((one.spent_usd for one in spenders), start=Decimal(0))
    what = f"the last {window}, by {by.replace('_', ' ')}"
    title = Text(f"{what}   together ${total:,f}   {datetime.now(UTC):%H:%M:%S} UTC")
    if not spenders:
        return Group(title, Text("no request has finished in this time"))
    columns = [by.replace("_", " "), "spent (USD)", "", "requests", "tokens in", "tokens out"]
    unpriced = any(one.unpriced for one in spenders)
    made: Table = table(
        columns + ["unpriced"] * unpriced, (), right=columns[1:2] + columns[3:] + ["unpriced"]
    )
    largest = max(one.spent_usd for one in spenders)
    for one in spenders:
        share = float(one.spent_usd / largest) if largest else 0.0
        row = [
            _name(one),
            f"{one.spent_usd:,f}",
            "█" * round(share * 20),
            f"{one.requests:,}",
            f"{one.input_tokens:,}",
            f"{one.output_tokens:,}",
        ]
        made.add_row(*row, *([str(one.unpriced or "")] if unpriced else []))
    return Group(title, made)


def _told(error: Error) -> click.ClickException:
    return click.ClickException(f"history does not answer: {clickhouse.tell(error)}")


def _name(one: Spender) -> str:
    if not one.alias:
        return one.name or "(none)"
    return f"{one.alias} ({one.name[:8]})"
