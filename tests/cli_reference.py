"""docs/reference/cli.md: every command with its help and its options, written from the code.

python -m tests.cli_reference      # or `make cli-reference`
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from spendmeter.cli.main import main
from tests.pages import rewritten

PAGE = Path(__file__).parents[1] / "docs/reference/cli.md"
TARGET = "cli-reference"
COMMON = {
    "--dir": "a local stack, where the environment names no cluster",
    "--json": "prints JSON",
    "--help": "prints what stands here",
}
"""Options of nearly every command: the page says them once."""


def text() -> str:
    """The page's part."""
    return "\n" + "\n".join(line for block in _blocks(main, "spendmeter", 2) for line in block) + "\n"


def commands(of: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and those below it, by their whole names."""
    yield name, of
    if isinstance(of, click.Group):
        context = click.Context(of)
        for one in of.list_commands(context):
            below = of.get_command(context, one)
            assert below is not None, one
            yield from commands(below, f"{name} {one}")


def _blocks(group: click.Group, name: str, level: int) -> Iterator[list[str]]:
    context = click.Context(group)
    for one in group.list_commands(context):
        command = group.get_command(context, one)
        assert command is not None, one
        yield from _command(command, f"{name} {one}", level)


def _command(command: click.Command, name: str, level: int) -> Iterator[list[str]]:
    heading = [f"{'#' * level} `{name}`", "", *_help(command)]
    if isinstance(command, click.Group):
        yield heading
        yield from _blocks(command, name, level + 1)
        return
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield [*heading, f"`{name} {usage}`", "", *_options(command, context)]


def _help(command: click.Command) -> Iterator[str]:
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph:
            yield _escaped(" ".join(paragraph.split()))
            yield ""


def _options(command: click.Command, context: click.Context) -> list[str]:
    records = [
        (record[0], " ".join(record[1].split()))
        for param in command.params
        if not COMMON.keys() & {*param.opts} and (record := param.get_help_record(context)) is not None
    ]
    if not records:
        return []
    rows = [f"| `{names.replace('|', '/')}` | {_escaped(said)} |" for names, said in records]
    return ["| option | |", "|---|---|", *rows, ""]


def _escaped(said: str) -> str:
    """Words of a terminal, as Markdown shows them; code in backticks stays."""
    parts = re.split(r"(`[^`]*`)", said.replace("|", "\\|"))
    return "".join(part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), TARGET, text()), encoding="utf-8")
