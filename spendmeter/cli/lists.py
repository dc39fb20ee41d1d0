"""What lists of what happened have in common: their filters, their rows, the names of accounts."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from spendmeter.cli.answers import TABLE, as_data, write_answer
from spendmeter.cli.connection import history
from spendmeter.cli.options import Moment, MomentOption, moment_in
from spendmeter.cli.printing import print_json, say, usd
from spendmeter.contract.money import from_usd
from spendmeter.history.lists import ListFilter, ListQuery
from spendmeter.history.names import names_of_ids
from spendmeter.settings import ClickHouseSettings
from spendmeter.values.account import subject_in

Row = dict[str, Any]
_F = TypeVar("_F", bound=Callable[..., Any])


def filtered(command: _F) -> _F:
    """The filters of a list."""
    for option in (
        click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True),
        click.option("--until", type=MomentOption(), help="Before then; as --since."),
        click.option("--since", type=MomentOption(), help="Then or later: a date, a time, or 2h, 3d ago."),
        click.option("--key", "keys", multiple=True, metavar="NAME", help="Of these keys, by name or hash."),
        click.option("--budget", "budgets", multiple=True, metavar="ID", help="Of these budgets."),
    ):
        command = option(command)
    return command


def list_filter(
    kinds: tuple[str, ...],
    budgets: tuple[str, ...],
    keys: tuple[str, ...],
    since: Moment | None,
    until: Moment | None,
    limit: int,
    zone: ZoneInfo,
) -> ListFilter:
    """What the options select; dates are midnights in the zone."""
    now = datetime.now(UTC)
    begin, end = (None if one is None else moment_in(zone, one, now) for one in (since, until))
    if begin is not None and end is not None and end <= begin:
        raise click.UsageError("--until is not after --since")
    return ListFilter(kinds, budgets, keys, begin, end, limit)


def read_list(
    settings: ClickHouseSettings, query: ListQuery, format_: str, output: Path | None, wide: bool
) -> list[Row] | None:
    """The rows; None if they have been written as a file. Each has its `whose`, with names unless `wide`."""
    if format_ != TABLE:
        write_answer(settings, query.sql, format_, output, query.parameters)
        return None
    with history(settings, tz_mode="aware") as client:
        result = client.query(query.sql, parameters=query.parameters)
        rows = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
        subjects = [subject_in(row["account"]) for row in rows]
        pairs = {pair for subject in subjects for pair in subject.items()}
        names = {} if wide else names_of_ids(client, pairs)
    for row, subject in zip(rows, subjects, strict=True):
        row["whose"] = ", ".join(f"{one[0]}={names.get(one) or one[1]}" for one in subject.items())
    return rows


def show_list(rows: Sequence[Row], as_json: bool, limit: int, nothing: str, show: Callable[[], None]) -> None:
    """Print the rows, as JSON or by `show`, and say if there may be more."""
    if as_json:
        return print_json([{name: as_data(value) for name, value in row.items()} for row in rows])
    if not rows:
        return say(nothing)
    show()
    if len(rows) == limit:
        say(f"the latest {limit:,}; --limit shows more, --until earlier ones", err=True)
    return None


def amounts(row: Row) -> str:
    """`$0.5 of $1`; a dash where no account is concerned."""
    spent, limit = row["spent_usd"], row["limit_usd"]
    return "-" if spent is None or limit is None else f"{usd(from_usd(spent))} of {usd(from_usd(limit))}"
