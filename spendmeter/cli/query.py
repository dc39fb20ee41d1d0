"""`spendmeter query`: any query of history."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import click

from spendmeter.cli.connection import clickhouse_settings, history
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, print_table, say
from spendmeter.runtime.clickhouse import QueryResult
from spendmeter.settings import ClickHouseSettings
from spendmeter.values.times import format_time

MAX_ROWS_SHOWN = 1_000
MAX_ROWS = 1_000_000
"""The rows of an answer, which is held in memory whole."""


@click.command()
@click.argument("sql", metavar="SQL")
@dir_option
@json_option
def query(sql: str, dir_: Path | None, as_json: bool) -> None:
    """Query history in SQL: "SELECT team, sum(spent_usd) FROM by_team_day GROUP BY team".

    One statement that reads; ClickHouse refuses any other.

    Views: events, by_hour, by_day, by_team_day, by_key_day, by_model_day, accounts_now, budgets_now,
    refusals, alerts_once (docs/history.md has twenty questions). The tables beneath, usage and others,
    are read with FINAL. Amounts are exact decimals; --json gives them as strings.
    """
    result = _ask(clickhouse_settings(dir_), sql)
    if as_json:
        return print_json(
            [dict(zip(result.column_names, map(_data, row), strict=True)) for row in result.result_rows]
        )
    if not result.result_rows:
        return say("no rows", err=True)
    shown = [[_text(value) for value in row] for row in result.result_rows[:MAX_ROWS_SHOWN]]
    print_table(result.column_names, shown, right=_numbers(result))
    if (more := len(result.result_rows) - len(shown)) > 0:
        say(f"… and {more:,} more rows; --json prints them all, LIMIT asks for fewer", err=True)
    return None


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


def _data(value: Any) -> Any:
    """A value of ClickHouse for JSON; what JSON would round (Decimal) or does not have becomes text."""
    match value:
        case Decimal():
            return f"{value:f}"
        case float():
            return value if isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case datetime():
            return format_time(value if value.tzinfo else value.replace(tzinfo=UTC))
        case date():
            return value.isoformat()
        case dict():
            return {str(_data(name)): _data(held) for name, held in value.items()}
        case list() | tuple():
            return [_data(held) for held in value]
        case _:
            return str(value)


def _text(value: Any) -> str:
    """A value in a table: as in JSON, but with times for people and nothing for NULL."""
    data = _data(value)
    if isinstance(value, datetime):
        return str(data).replace("T", " ").replace("Z", "")
    if data is None:
        return ""
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
