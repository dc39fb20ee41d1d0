"""`spendmeter query`: any query of history."""

import re
from collections.abc import Sequence
from pathlib import Path

import click

from spendmeter.cli.answers import (
    TABLE,
    as_data,
    as_text,
    check_outputs,
    format_option,
    output_option,
    write_answer,
)
from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import (
    GAP,
    MIN_TEXT,
    natural_width,
    print_json,
    print_records,
    print_table,
    say,
    terminal_width,
)
from spendmeter.runtime.clickhouse import QueryResult
from spendmeter.settings import ClickHouseSettings

MAX_ROWS_SHOWN = 1_000
MAX_ROWS = 1_000_000
"""The rows of an answer that is held in memory whole."""
# By name: `ORDER BY format DESC` is none.
_NAMES_A_FORMAT = re.compile(
    r"\b(?i:FORMAT)\s+(?:CSV|TSV|TabSeparated|JSON|Parquet|Pretty|Vertical|Native|Arrow|Avro|ORC|XML|Markdown|Values)"
    r"\w*[\s;]*$"
)


@click.command()
@click.argument("sql", metavar="SQL")
@format_option
@output_option
@dir_option
@json_option
def query(sql: str, format_: str, output: Path | None, dir_: Path | None, as_json: bool) -> None:
    """Query history in SQL: "SELECT team, sum(spent_usd) FROM by_team_day GROUP BY team".

    One statement that reads; ClickHouse refuses any other.

    Views: events, by_hour, by_day, by_team_day, by_key_day, by_model_day, accounts_now, budgets_now,
    refusals, alerts_once (docs/history.md has twenty questions). The tables beneath, usage and others,
    are read with FINAL. Amounts are exact decimals; --json and --format jsonl give them as strings.
    """
    check_outputs(format_, output, as_json)
    if _NAMES_A_FORMAT.search(sql):
        raise click.UsageError(
            "leave FORMAT out of the query; the option --format says csv, jsonl or parquet"
        )
    settings = clickhouse_settings(dir_)
    if format_ != TABLE:
        return write_answer(settings, sql, format_, output)
    result = _ask(settings, sql)
    if as_json:
        return print_json(
            [dict(zip(result.column_names, map(as_data, row), strict=True)) for row in result.result_rows]
        )
    if not result.result_rows:
        return say("no rows", err=True)
    _print(result)
    if (more := len(result.result_rows) - MAX_ROWS_SHOWN) > 0:
        say(f"… and {more:,} more rows; --format csv writes them all, LIMIT asks for fewer", err=True)
    return None


def _print(result: QueryResult) -> None:
    """A table; where the terminal has no room for its columns, each row by itself."""
    shown = [[as_text(value) for value in row] for row in result.result_rows[:MAX_ROWS_SHOWN]]
    width, names = terminal_width(), result.column_names
    if width is not None and len(names) * (MIN_TEXT + len(GAP)) - len(GAP) > width < natural_width(
        names, shown
    ):
        return print_records(names, shown)
    ids = [name for name, kind in zip(names, result.column_types, strict=True) if "UUID" in kind.name]
    return print_table(names, shown, right=_numbers(result), whole=ids)


def _ask(settings: ClickHouseSettings, sql: str) -> QueryResult:
    limits = {"max_result_rows": MAX_ROWS, "result_overflow_mode": "throw"}
    with history(settings, limits=limits, tz_mode="aware") as client:
        return client.query(sql)


def _numbers(result: QueryResult) -> Sequence[str]:
    kinds = (
        "Int",
        "UInt",
        "Decimal",
        "Float",
        "Nullable(Decimal",
        "Nullable(Int",
        "Nullable(UInt",
        "Nullable(Float",
    )
    return [
        name
        for name, kind in zip(result.column_names, result.column_types, strict=True)
        if kind.name.startswith(kinds)
    ]
