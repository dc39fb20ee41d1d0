"""`spendmeter refusals`: who was refused, when and why."""

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from spendmeter.cli.answers import check_outputs, format_option, output_option
from spendmeter.cli.connection import clickhouse_settings
from spendmeter.cli.lists import Row, amounts, filtered, list_filter, read_list, show_list
from spendmeter.cli.options import Moment, dir_option, ids_option, json_option, zone_option
from spendmeter.cli.printing import STATES, clock, print_table
from spendmeter.contract.decision import Why
from spendmeter.history.lists import refusals_query


@click.command()
@filtered
@click.option(
    "--why",
    "kinds",
    multiple=True,
    type=click.Choice([str(why) for why in Why]),
    metavar="WHY",
    help=f"One of {', '.join(Why)}.",
)
@zone_option
@ids_option
@format_option
@output_option
@dir_option
@json_option
def refusals(
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
    """Refused requests, newest first; `spendmeter explain DECISION` shows what one rests on."""
    check_outputs(format_, output, as_json)
    settings = clickhouse_settings(dir_)
    query = refusals_query(list_filter(kinds, budgets, keys, since, until, limit, zone))
    rows = read_list(settings, query, format_, output, wide)
    if rows is not None:
        show_list(rows, as_json, limit, "no such refusal", lambda: _print(rows, zone))


def _print(rows: Sequence[Row], zone: ZoneInfo) -> None:
    headings = (f"when ({zone.key})", "why", "who", "budget", "whose", "spent of limit", "decision")
    print_table(
        headings,
        [
            (
                clock(row["decided_at"], zone),
                row["why"],
                row["name"],
                row["budget_id"] or "-",
                row["whose"] or "-",
                amounts(row),
                str(row["decision_id"]),
            )
            for row in rows
        ],
        whole=(headings[0], "why", "spent of limit", "decision"),
        spare=("whose",),
        below="decision",
        colours={"why": STATES},
    )
