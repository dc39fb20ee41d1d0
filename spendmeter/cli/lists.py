"""What lists of what happened have in common: their filters, their rows, the names of accounts."""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import click

from spendmeter.cli.answers import (
    TABLE,
    as_data,
    check_outputs,
    format_option,
    output_option,
    write_answer,
)
from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import (
    Moment,
    MomentOption,
    dir_option,
    ids_option,
    json_option,
    moment_in,
    zone_option,
)
from spendmeter.cli.printing import print_json, say, usd
from spendmeter.contract.money import from_usd
from spendmeter.history.lists import ListFilter, ListQuery
from spendmeter.history.names import names_of_ids
from spendmeter.settings import ClickHouseSettings
from spendmeter.values.account import subject_in

Row = dict[str, Any]


class Listing(NamedTuple):
    """What somebody wants to see listed, and how."""

    settings: ClickHouseSettings
    wanted: ListFilter
    zone: ZoneInfo
    format_: str
    output: Path | None
    wide: bool
    as_json: bool


def list_options(
    kind_option: str, kinds: type[StrEnum]
) -> Callable[[Callable[[Listing], None]], Callable[..., None]]:
    """The options of a command that lists: it gets them as one `Listing`."""
    name = kind_option.removeprefix("--").upper()

    def decorate(command: Callable[[Listing], None]) -> Callable[..., None]:
        @click.option("--budget", "budgets", multiple=True, metavar="ID", help="Of these budgets.")
        @click.option("--key", "keys", multiple=True, metavar="NAME", help="Of these keys, by name or hash.")
        @click.option("--since", type=MomentOption(), help="Then or later: a date, a time, or 2h, 3d ago.")
        @click.option("--until", type=MomentOption(), help="Before then; as --since.")
        @click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
        @click.option(
            kind_option,
            "kinds",
            multiple=True,
            type=click.Choice([str(kind) for kind in kinds]),
            metavar=name,
            help=f"One of {', '.join(kinds)}.",
        )
        @zone_option
        @ids_option
        @format_option
        @output_option
        @dir_option
        @json_option
        @functools.wraps(command)
        def listing(
            kinds: tuple[str, ...],
            budgets: tuple[str, ...],
            keys: tuple[str, ...],
            since: Moment | None,
            until: Moment | None,
            limit: int,
            zone: ZoneInfo,
            wide: bool,
            format_: str,
            output: Path | None,
            dir_: Path | None,
            as_json: bool,
        ) -> None:
            check_outputs(format_, output, as_json)
            settings, now = clickhouse_settings(dir_), datetime.now(UTC)
            begin, end = (None if one is None else moment_in(zone, one, now) for one in (since, until))
            if begin is not None and end is not None and end <= begin:
                raise click.UsageError("--until is not after --since")
            wanted = ListFilter(kinds, budgets, keys, begin, end, limit)
            command(Listing(settings, wanted, zone, format_, output, wide, as_json))

        return listing

    return decorate


def show_list(
    listing: Listing,
    query_of: Callable[[ListFilter], ListQuery],
    nothing: str,
    show: Callable[[Sequence[Row], ZoneInfo], None],
) -> None:
    """Write the rows as a file, or print them as JSON or by `show`, and say if there may be more."""
    query, limit = query_of(listing.wanted), listing.wanted.limit
    if listing.format_ != TABLE:
        return write_answer(listing.settings, query.sql, listing.format_, listing.output, query.parameters)
    rows = _read(listing.settings, query, wide=listing.wide)
    if listing.as_json:
        return print_json([{name: as_data(value) for name, value in row.items()} for row in rows])
    if not rows:
        return say(nothing)
    show(rows, listing.zone)
    if len(rows) == limit:
        say(f"the latest {limit:,}; --limit shows more, --until earlier ones", err=True)
    return None


def _read(settings: ClickHouseSettings, query: ListQuery, *, wide: bool) -> list[Row]:
    """The rows, each with its `whose`: with names unless `wide`."""
    with history(settings, tz_mode="aware") as client:
        result = client.query(query.sql, parameters=query.parameters)
        rows = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
        subjects = [subject_in(row["account"]) for row in rows]
        pairs = {pair for subject in subjects for pair in subject.items()}
        names = {} if wide else names_of_ids(client, pairs)
    for row, subject in zip(rows, subjects, strict=True):
        row["whose"] = ", ".join(f"{one[0]}={names.get(one) or one[1]}" for one in subject.items())
    return rows


def amounts(row: Row) -> str:
    """`$0.5 of $1`; a dash where no account is concerned."""
    spent, limit = row["spent_usd"], row["limit_usd"]
    return "-" if spent is None or limit is None else f"{usd(from_usd(spent))} of {usd(from_usd(limit))}"
