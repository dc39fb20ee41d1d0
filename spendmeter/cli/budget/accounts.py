"""Reads `--match team=red` and `--for key=laptop`: dimensions with ids, or with names for people."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from spendmeter.budgets.file import wrong_values
from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.contract.budget import ANY
from spendmeter.files.scalars import nearest
from spendmeter.history.names import NAMED, ids_named, known_names
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter.values.ids import is_hash, short

MAX_NAMED = 10

ids_option = click.option(
    "--as-id", "are_ids", is_flag=True, help="What --for says are ids; history need not know them."
)


class NamedAccount(NamedTuple):
    """The values of some dimensions."""

    ids: dict[Dimension, str]
    name: str
    """What people call them."""


class _Pair(click.ParamType):
    name = "dimension=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Dimension, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        for dimension in DIMENSIONS:
            if dimension == name.strip().replace("-", "_"):
                if not equals or not text:
                    self.fail(f"{value[:50]!r} says no value; write it as {dimension}=…", param, ctx)
                for wrong in wrong_values(dimension, text):
                    self.fail(wrong, param, ctx)
                return dimension, text
        return self.fail(f"{name[:50]!r} is no dimension; {nearest(name, DIMENSIONS)}", param, ctx)


PAIR = _Pair()


def one_each(pairs: Sequence[tuple[Dimension, str]], option: str) -> dict[Dimension, str]:
    """The pairs by dimension. A dimension that is given twice ends the command, exit 2."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise click.UsageError(f"{option} gives a dimension twice; keep one")
    return found


def find_account(pairs: Mapping[Dimension, str], *, are_ids: bool, dir_: Path | None) -> NamedAccount:
    """The ids of what is named. One that is unknown or ambiguous ends the command, exit 1."""
    needed = {d: text for d, text in pairs.items() if not are_ids and not _is_plain(d, text)}
    ids = dict(pairs)
    if needed:
        with history(clickhouse_settings(dir_)) as client:
            ids |= {dimension: _id(client, dimension, text) for dimension, text in needed.items()}
    return NamedAccount(ids, "-".join(map(short, pairs.values())))


def _is_plain(dimension: Dimension, text: str) -> bool:
    """Whether it is an id without asking: values of this dimension have no names, or it is a key's hash."""
    return dimension not in NAMED or text == ANY or (dimension == "key" and is_hash(text))


def _id(client: Client, dimension: Dimension, text: str) -> str:
    found = ids_named(client, dimension, text)
    if text in found:
        return text
    if len(found) > 1:
        ids = _listed(found)
        raise click.ClickException(
            f"{dimension}={text} is {len(found)} of them: {ids}; give one of these ids"
        )
    if not found:
        raise click.ClickException(
            f"history has no {dimension} {text!r}; {_others(client, dimension, text)}. One that has not spent"
            " yet: give its id, and --as-id"
        )
    return next(iter(found))


def _others(client: Client, dimension: Dimension, text: str) -> str:
    names = known_names(client, dimension)
    if not names:
        return f"no {dimension} has spent anything yet"
    if (close := nearest(text, names)).startswith("did you mean"):
        return close
    return f"it has {_listed(map(short, names))}"


def _listed(names: Iterable[str]) -> str:
    every = [*names]
    more = f" and {len(every) - MAX_NAMED:,} more" if len(every) > MAX_NAMED else ""
    return ", ".join(every[:MAX_NAMED]) + more
