"""Rows as CSV, for spreadsheets. Pure."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from spendmeter.contract.money import format_usd
from spendmeter_console.history.rows import EventRow

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
EVENT_HEAD = tuple("cost_usd" if one == "cost_nanousd" else one for one in EventRow._fields)


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """CSV. A spreadsheet would run a cell that begins like a formula: such a text has ' in front."""
    written = io.StringIO()
    csv.writer(written).writerows([[_cell(cell) for cell in row] for row in rows])
    return written.getvalue().encode()


def event_cells(row: EventRow) -> list[Any]:
    """An event in the columns of EVENT_HEAD."""
    cells = row._asdict()
    cells["cost_nanousd"] = format_usd(row.cost_nanousd)
    cells["occurred_at"] = row.occurred_at.isoformat()
    cells["tags"] = " ".join(row.tags)
    cells["prices"] = json.dumps(row.prices, ensure_ascii=False, sort_keys=True) if row.prices else ""
    return list(cells.values())


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_amount(value):
        return f"'{value}"
    return value


def _is_amount(value: str) -> bool:
    return value.removeprefix("-").replace(".", "", 1).isdecimal() and value.isascii()
