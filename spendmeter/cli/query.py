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
    """Query history in SQL: "SELECT key_alias, sum(cost_usd) FROM spend.usage_once GROUP BY key_alias".

    One statement that reads; ClickHouse refuses any other.

    Tables: usage, signals, alerts, budgets, decisions, dead_letters; read them with FINAL. Views that
    need none: usage_once, usage_net (corrections applied), signals_now, budgets_now. Amounts are exact
    decimals; --json gives them as strings.
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
