"""Blocks of a page that show a terminal: commands, and the lines that they print, with `…` for anything."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")
ANYTHING = "…"


class ShownCommand(NamedTuple):
    """A command after `$`, and what the page shows of its output."""

    command: str
    shown: list[str]


def commands(page: str) -> Iterator[ShownCommand]:
    """Every command of the page, in its order."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            yield ShownCommand(command, shown)


def missing(shown: list[str], output: str) -> list[str]:
    """The shown lines that the output lacks, each looked for behind the one before it."""
    lines, lacking, at = output.splitlines(), [], 0
    for line in shown:
        wanted = re.compile(".*".join(map(re.escape, line.split(ANYTHING))))
        found = next((n for n in range(at, len(lines)) if wanted.fullmatch(lines[n])), None)
        if found is None:
            lacking.append(line)
        else:
            at = found + 1
    return lacking


def yaml_files(page: str) -> dict[str, str]:
    """Name to text of the YAML blocks whose first line is a comment with their name."""
    return {
        name: f"# {name}\n{text}"
        for name, text in re.findall(r"(?ms)^```yaml\n# ([\w.-]+\.yaml)\n(.*?)^```$", page)
    }
