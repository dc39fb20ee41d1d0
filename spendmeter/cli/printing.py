"""How commands print: JSON as data, tables and money for people."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from spendmeter.contract.money import NanoUsd, format_usd

# Wide enough that a redirected table never wraps.
_WIDTH_WITHOUT_TERMINAL = 200


def print_json(value: Any) -> None:
    """Indented JSON; money is in it as whole nano-USD and as decimal strings, never as a float."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> Table:
    """Plain aligned columns; those named in `right` hold numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_table(made: Table) -> None:
    console().print(made)


def console() -> Console:
    """Standard output as it is now (tests and pipes replace it)."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)


def usd(amount: NanoUsd) -> str:
    """`$0.001`, every digit of it."""
    text = format_usd(amount)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def clock(time: datetime | None) -> str:
    """`2026-11-22 10:00:00` in UTC; a dash for none."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"
