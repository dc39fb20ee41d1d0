"""Answers of history as commands give them: JSON, texts in a table, or a file that is written as it comes."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from spendmeter.cli.connection import history
from spendmeter.cli.printing import write_data
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings
from spendmeter.values.times import format_time

CHUNK_BYTES = 1024 * 1024
TABLE: Final = "table"
FILES: Final[Mapping[str, str]] = {"csv": "CSVWithNames", "jsonl": "JSONEachRow", "parquet": "Parquet"}
"""Format: what ClickHouse calls it."""
AS_FILES: Final[Mapping[str, Any]] = {
    # As numbers most readers of JSON would round amounts.
    "output_format_json_quote_decimals": 1,
    "output_format_json_quote_64bit_integers": 0,
    "format_csv_null_representation": "",
}
"""Settings of ClickHouse for what programs read."""
_TAIL_BYTES = 16 * 1024
# ClickHouse has no other way to say that a query failed once its answer has begun.
_FAILED = re.compile(rb"Code: \d+\. DB::Exception: [^\n]*")
_F = TypeVar("_F", bound=Callable[..., Any])

output_option = click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write into this file, all or nothing."
)
format_option = click.option(
    "--format",
    "format_",
    type=click.Choice([TABLE, *FILES]),
    default=TABLE,
    show_default=True,
    help="All but the table are written as they come, whole.",
)


def check_outputs(format_: str, output: Path | None, as_json: bool) -> None:
    """Refuse options that exclude one another.

    Raises:
        click.UsageError: --json or --output beside a format that it does not go with.
    """
    if as_json and format_ != TABLE:
        raise click.UsageError("give either --json or --format; JSON lines are --format jsonl")
    if output is not None and format_ == TABLE:
        raise click.UsageError(f"--output needs a --format: {', '.join(FILES)}")


def write_answer(
    settings: ClickHouseSettings,
    sql: str,
    format_: str,
    output: Path | None,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Write the answer of one query as a file or to standard output; never more than a chunk is held."""
    write_data(_answer(settings, sql, format_, parameters), output, is_text=format_ != "parquet")


def _answer(
    settings: ClickHouseSettings, sql: str, format_: str, parameters: Mapping[str, Any] | None
) -> Iterator[bytes]:
    with history(settings, limits=AS_FILES) as client:
        yield from streamed(client, sql, FILES[format_], parameters)


def streamed(
    client: Client, sql: str, native: str, parameters: Mapping[str, Any] | None = None
) -> Iterator[bytes]:
    """The answer as it comes, in a format of ClickHouse; never more than a chunk of it is held."""
    tail = b""
    stream = client.raw_stream(sql, parameters=parameters, fmt=native)
    try:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
            tail = (tail + chunk)[-_TAIL_BYTES:]
    finally:
        stream.close()
    if failed := _FAILED.search(tail):
        said = failed.group().decode(errors="replace")
        raise click.ClickException(f"history broke off ({said}); ask for less at once")


def as_data(value: Any) -> Any:
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
            return {str(as_data(name)): as_data(held) for name, held in value.items()}
        case list() | tuple():
            return [as_data(held) for held in value]
        case _:
            return str(value)


def as_text(value: Any) -> str:
    """A value in a table: as in JSON, but with times for people and nothing for NULL."""
    data = as_data(value)
    if isinstance(value, datetime):
        return str(data).replace("T", " ").replace("Z", "")
    if data is None:
        return ""
    return data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
