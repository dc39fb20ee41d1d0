"""`spendmeter export` and `spendmeter chargeback`: history as a file."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import click

from spendmeter.cli.answers import output_option, streamed
from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, print_table, say, write_data
from spendmeter.history.export import (
    FORMATS,
    Export,
    Format,
    InvalidExport,
    parse_groups,
    parse_moment,
    parse_month,
    parse_zone,
)
from spendmeter.settings import ClickHouseSettings

_zone_option = click.option(
    "--timezone",
    "--zone",
    "zone",
    default="UTC",
    show_default=True,
    help="Whose midnights dates and days begin at.",
)


@click.command()
@click.option("--from", "start", required=True, help="A date, or a time with its offset.")
@click.option("--to", "end", required=True, help="The first date or time that is left out.")
@click.option("--by", default="", help="Sums by these, such as team,model or day,key; else single requests.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="csv", show_default=True)
@_zone_option
@output_option
@dir_option
def export(
    start: str, end: str, by: str, format_: Format, zone: str, output: Path | None, dir_: Path | None
) -> None:
    """Write history as a file: single requests, or sums; CSV, JSON lines, Parquet or FOCUS 1.2.

    Amounts are in USD and exact. What was spent is after corrections and voids. Names that a spreadsheet
    would run as a formula begin with an apostrophe.
    """
    try:
        midnights_of = parse_zone(zone)
        wanted = Export(
            parse_moment(start, midnights_of),
            parse_moment(end, midnights_of),
            format_,
            parse_groups(by) if by else (),
            zone,
        )
    except InvalidExport as error:
        raise click.UsageError(str(error)) from None
    settings = clickhouse_settings(dir_)
    write_data(_chunks(settings, wanted), output, is_text=format_ != "parquet")


@click.command()
@click.option("--month", required=True, help="Such as 2026-11.")
@click.option("--by", default="team", show_default=True, help="Such as team, or organization,team.")
@_zone_option
@dir_option
@json_option
def chargeback(month: str, by: str, zone: str, dir_: Path | None, as_json: bool) -> None:
    """What each team (or whoever --by names) has to be charged for a month, and its share of all."""
    try:
        start, end = parse_month(month, parse_zone(zone))
        wanted = Export(start, end, "parquet", parse_groups(by), zone)
    except InvalidExport as error:
        raise click.UsageError(str(error)) from None
    (piece,) = wanted.pieces()
    with history(clickhouse_settings(dir_)) as client:
        result = client.query(piece.sql)
    found = [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]
    total = sum((row["spent_usd"] for row in found), start=Decimal(0))
    found.sort(key=lambda row: -row["spent_usd"])
    shares = [_share(row["spent_usd"], total) for row in found]
    names = [name for name in result.column_names if name not in _LEFT_OUT]
    if as_json:
        return print_json(
            {
                "month": month,
                "total_usd": f"{total:f}",
                "rows": [
                    {**{name: _plain(row[name]) for name in names}, "share_percent": share}
                    for row, share in zip(found, shares, strict=True)
                ],
            }
        )
    if not found:
        return say(f"nothing was spent in {month}", err=True)
    rows = [[*(_plain(row[name]) for name in names), share] for row, share in zip(found, shares, strict=True)]
    rows.append(["total", *([""] * (len(names) - 2)), f"{total:f}", "100.00" if total else ""])
    return print_table([*names, "%"], rows, right=["requests", "spent_usd", "%"])


_LEFT_OUT = frozenset(
    {"failures", "estimated", "unpriced", "corrections"}
    | {f"{kind}_tokens" for kind in ("input", "output", "cache_read", "cache_write", "reasoning")}
)


def _share(amount: Decimal, total: Decimal) -> str:
    return f"{amount / total * 100:.2f}" if total else ""


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _chunks(settings: ClickHouseSettings, wanted: Export) -> Iterator[bytes]:
    with history(settings) as client:
        for piece in wanted.pieces():
            yield from streamed(client, piece.sql, piece.format)
