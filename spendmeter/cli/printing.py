"""All printing of commands: data is never markup, and nothing in it acts on the terminal."""

import json
import os
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.visible import visible, visible_json

# Rich's own tables render each cell by itself: five seconds for ten thousand rows, a tenth of that here.
GAP = "  "


def columns(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), width: int
) -> Iterator[str]:
    """The lines of a table, its headings first; those named in `right` are aligned right.

    Text that is too wide is folded within its column, the widest columns first. Unprintable characters in
    data are escaped.
    """
    aligned = frozenset(right)
    to_the_right = [heading in aligned for heading in headings]
    table = [[visible(cell) for cell in row] for row in (headings, *rows)]
    natural = [max(map(_width, column)) for column in zip(*table, strict=True)]
    widths = _fitted(natural, width - len(GAP) * (len(headings) - 1))
    is_folded = widths != natural
    for row in table:
        parts = (
            [_folded(cell, at) for cell, at in zip(row, widths, strict=True)]
            if is_folded
            else [[cell] for cell in row]
        )
        for cells in zip_longest(*parts, fillvalue=""):
            placed = map(_placed, cells, widths, to_the_right)
            yield GAP.join(placed).rstrip()


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths that fit together, none below 1."""
    fitted = list(widths)
    while sum(fitted) > room and max(fitted) > 1:
        widest = max(fitted)
        others = [width for width in fitted if width < widest]
        level = max(others, default=1)
        many = len(fitted) - len(others)
        # Down to the next widest, or as far as necessary.
        least = max(level, widest - -(-(sum(fitted) - room) // many), 1)
        fitted = [min(width, least) for width in fitted]
    return fitted


def _placed(cell: str, width: int, to_the_right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if to_the_right else cell + space


def _folded(cell: str, width: int) -> list[str]:
    return [cell] if _width(cell) <= width else chop_cells(cell, width)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


# Wide enough that a redirected table never wraps.
_WIDTH_WITHOUT_TERMINAL = 200
_OUR_BREAKS = "\n\t"


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line; a line break in it is data, and is escaped."""
    click.echo(visible(line), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of several lines, in which line breaks of data are already escaped."""
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


def write_data(chunks: Iterable[bytes], output: Path | None, *, is_text: bool) -> None:
    """Write a file as its pieces come: into `output`, all of it or nothing; else to standard output.

    On a terminal text is made visible, and what is no text is refused.
    """
    if output is not None:
        draft = output.with_name(f".{output.name}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
        return
    if not sys.stdout.isatty():
        stream = click.get_binary_stream("stdout")
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        return
    if not is_text:
        raise click.UsageError("this format is no text; name a file with --output")
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        click.echo(visible(decoder.decode(chunk), keep=_OUR_BREAKS), nl=False)


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
    """From now on a character that the terminal's encoding lacks is escaped instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def usd(amount: NanoUsd) -> str:
    """`$0.001`, with every digit."""
    text = format_usd(amount)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def clock(time: datetime | None) -> str:
    """`2026-11-22 10:00:00` in UTC; a dash for none."""
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "-"
