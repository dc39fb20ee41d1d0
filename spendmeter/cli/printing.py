"""All printing of commands: data is never markup, and nothing in it acts on the terminal."""

import json
import os
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import MappingProxyType
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
CUT = "…"
MIN_TEXT = 8
"""Columns of text keep this width, or their own, before numbers and ids are cut, too."""
Colours = Mapping[str, Mapping[str, str]]
"""Heading: first word of a cell: its colour."""
NO_COLOURS: Colours = MappingProxyType({})
STATES: Mapping[str, str] = {
    **dict.fromkeys(("ok", "ready", "up"), "green"),
    **dict.fromkeys(("warning", "starting", "restarting", "threshold", "forecast", "behind"), "yellow"),
    **dict.fromkeys(("exceeded", "stopped", "missing", "limit_reached", "no_room", "blind"), "red"),
}
"""Colours of states, kinds of alerts and reasons of refusals."""


def columns(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    width: int | None = None,
    colours: Colours = NO_COLOURS,
) -> Iterator[str]:
    """The lines of a table, its headings first: one line a row.

    Unprintable characters in data are escaped. Text that is too wide ends with an ellipsis, the widest
    columns first; `right` (numbers, aligned right) and `whole` (ids) only if nothing else is left to cut.

    Args:
        width: of the terminal; None: nothing is cut.
        colours: as escape sequences; for a terminal that has colours.
    """
    table = [[visible(cell) for cell in row] for row in (headings, *rows)]
    natural = [max(map(_width, column)) for column in zip(*table, strict=True)]
    numbers = frozenset(right)
    kept = numbers.union(whole)
    widths = (
        [min(one, _WIDTH_WITHOUT_TERMINAL) for one in natural]
        if width is None
        else _fitted(
            natural, [heading in kept for heading in headings], width - len(GAP) * (len(headings) - 1)
        )
    )
    to_the_right = [heading in numbers for heading in headings]
    of_columns = [colours.get(heading, {}) for heading in headings]
    for number, row in enumerate(table):
        cells = row if width is None else map(cut, row, widths)
        painted = of_columns if number else [{}] * len(widths)
        yield GAP.join(map(_placed, cells, widths, to_the_right, painted)).rstrip()


def natural_width(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a table in which nothing is cut."""
    table = [headings, *rows]
    return sum(max(_width(visible(cell)) for cell in column) for column in zip(*table, strict=True)) + len(
        GAP
    ) * (len(headings) - 1)


def _fitted(natural: Sequence[int], is_kept: Sequence[bool], room: int) -> list[int]:
    """Widths that fit together, none below 1."""
    texts = [at for at, kept in enumerate(is_kept) if not kept]
    of_kept = sum(width for width, kept in zip(natural, is_kept, strict=True) if kept)
    if of_kept + sum(min(natural[at], MIN_TEXT) for at in texts) > room:
        return _levelled(natural, room)
    levelled = iter(_levelled([natural[at] for at in texts], room - of_kept))
    return [width if kept else next(levelled) for width, kept in zip(natural, is_kept, strict=True)]


def _levelled(widths: Sequence[int], room: int) -> list[int]:
    """The widths with the widest reduced as far as the room needs, none below 1."""
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


def _placed(cell: str, width: int, to_the_right: bool, colours: Mapping[str, str]) -> str:
    space = " " * (width - _width(cell))
    colour = colours.get(cell.partition(",")[0].partition(" ")[0])
    shown = click.style(cell, fg=colour) if colour else cell
    return space + shown if to_the_right else shown + space


def cut(cell: str, width: int) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    return cell if _width(cell) <= width else chop_cells(cell, width - 1)[0] + CUT if width > 1 else CUT


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


# Of what is piped: a column is padded up to here, and what is longer stands beyond it.
_WIDTH_WITHOUT_TERMINAL = 200
_OUR_BREAKS = "\n\t"


def say(line: str = "", *, err: bool = False, colour: str | None = None) -> None:
    """Print one line; a line break in it is data, and is escaped. Colours are for terminals."""
    click.secho(visible(line), err=err, fg=colour)


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


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    spare: Sequence[str] = (),
    colours: Colours = NO_COLOURS,
) -> Text:
    """A table for a live display, as `print_table` prints it."""
    heading, *lines = _fitting(headings, rows, right=right, spare=spare, colours=colours)
    # A plain string would be read as markup: `[/x]` ends the program, `:key:` becomes a picture.
    shown = Text("\n").join([Text(heading, "bold"), *map(Text.from_ansi, lines)])
    shown.no_wrap, shown.overflow = True, "crop"
    return shown


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
    spare: Sequence[str] = (),
    below: str = "",
    colours: Colours = NO_COLOURS,
) -> None:
    """Print data in aligned columns; see `columns`.

    On a terminal that has no room for all of them `spare` ones are left out, the last first, and each value
    of `below` stands under its row.
    """
    table, under = [headings, *rows], list[str]()
    width = terminal_width()
    if below and width is not None and natural_width(headings, table[1:]) > width:
        at = headings.index(below)
        under = [f"  {below} {row[at]}" for row in table[1:]]
        table = [[*row[:at], *row[at + 1 :]] for row in table]
    heading, *lines = _fitting(table[0], table[1:], right=right, whole=whole, spare=spare, colours=colours)
    is_coloured = has_colours()
    click.echo(click.style(heading, bold=True) if is_coloured else heading, color=is_coloured)
    for number, line in enumerate(lines):
        click.echo(line, color=is_coloured)
        if under:
            say(under[number])


def print_records(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of name and value, for what no terminal has room for side by side."""
    names = [visible(heading) for heading in headings]
    room = max(map(_width, names))
    for number, row in enumerate(rows, 1):
        say(f"row {number}")
        for name, value in zip(names, row, strict=True):
            say(f"  {name}{' ' * (room - _width(name))}  {value}".rstrip())


def _fitting(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    spare: Sequence[str] = (),
    colours: Colours = NO_COLOURS,
    **more: Iterable[str],
) -> Iterator[str]:
    """Columns for the output as it is; see `print_table`."""
    width, table = terminal_width(), [headings, *rows]
    left_out = [*spare]
    while width is not None and left_out and natural_width(table[0], table[1:]) > width:
        at = table[0].index(left_out.pop())
        table = [[*row[:at], *row[at + 1 :]] for row in table]
    painted = colours if has_colours() else {}
    return columns(table[0], table[1:], width=width, colours=painted, **more)


def terminal_width() -> int | None:
    """Columns of the terminal; None if the output goes elsewhere."""
    found = console()
    return found.width if found.is_terminal else None


def has_colours() -> bool:
    """Whether the output is a terminal with colours, and NO_COLOR is not set."""
    found = console()
    return found.is_terminal and not found.no_color and found.color_system is not None


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


def clock(time: datetime | None, zone: tzinfo = UTC) -> str:
    """`2026-11-22 10:00:00`; a dash for none."""
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M:%S}" if time else "-"
