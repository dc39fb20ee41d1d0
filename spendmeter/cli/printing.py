"""The only place where commands print: data is never markup, and nothing in it acts on the terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from spendmeter.cli.columns import columns
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.visible import visible, visible_json

# Wide enough that a redirected table never wraps.
_WIDTH_WITHOUT_TERMINAL = 200
_OUR_BREAKS = "\n\t"


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line; a line break in it is data, and written out."""
    click.echo(visible(line), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of several lines. Whoever made it has written out the line breaks of its data."""
    click.echo(visible(text, keep=_OUR_BREAKS), err=err)


def show_error(error: click.ClickException) -> None:
    """Print an error as click does."""
    error.message = visible(error.message, keep=_OUR_BREAKS)
    error.show()


def print_json(value: Any) -> None:
    """Indented JSON; money is in it as whole nano-USD and as decimal strings, never as a float."""
    written = (
        value.model_dump_json(indent=2)
        if isinstance(value, BaseModel)
        else json.dumps(value, indent=2, ensure_ascii=False)
    )
    click.echo(visible_json(written))


def print_json_line(value: BaseModel) -> None:
    """One JSON object in one line."""
    click.echo(visible_json(value.model_dump_json()))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> Text:
    """Data in aligned columns as wide as the output; those named in `right` hold numbers."""
    heading, *lines = columns(headings, rows, right=right, width=console().width)
    # A plain string would be read as markup: `[/x]` ends the program, `:key:` becomes a picture.
    return Text("\n").join([Text(heading, "bold"), *map(Text, lines)])


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> None:
    """Print data in aligned columns."""
    heading, *lines = columns(headings, rows, right=right, width=console().width)
    console().print(Text(heading, "bold"))
    for line in lines:
        say(line)


def console() -> Console:
    """Standard output as it is now (tests and pipes replace it)."""
    found = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
    if found.is_terminal:
        return found
    return Console(highlight=False, markup=False, emoji=False, width=_WIDTH_WITHOUT_TERMINAL)


def print_any_character() -> None:
    """From now on a character that the terminal's encoding lacks is written out instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def usd(amount: NanoUsd) -> str:
    """`$0.001`, every digit of it."""
    text = format_usd(amount)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def clock(time: datetime | None) -> str:
    """`2026-11-22 10:00:00` in UTC; a dash for none."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"
