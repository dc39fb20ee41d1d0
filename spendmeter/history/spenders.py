"""Who spent what in a span of time: from the sums by hour and day as far as these reach, else from events.

Money is exact, corrections and voids included. Requests are all that were made, also those that failed, as in
the views.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from spendmeter.history.names import NAME_COLUMNS, NAMED, name_sql
from spendmeter.history.usage import TAG_OR_NONE
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, Dimension, field_of
from spendmeter.values.times import EPOCH

ROLLED_UP: Final[frozenset[Dimension]] = frozenset(DIMENSIONS) - CLIENT_MADE
"""Dimensions of the sums by hour and day: what clients make up is in none."""
Filters = Mapping[Dimension, Sequence[str]]
"""Dimension: ids and names of which a request must have one; an empty text: it has none."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
# An earlier version recorded models with their provider in front.
_MODEL: Final = (
    "if(startsWith(of.model, concat(of.provider, '/')),"
    " substring(of.model, length(of.provider) + 2), of.model)"
)
_SUMS: Final[Mapping[str, str]] = {
    "spent_usd": "of.cost_usd",
    "requests": "toUInt64(of.kind = 'usage')",
    "failures": "toUInt64(of.kind = 'usage' AND of.status = 'failure')",
    "unpriced": "toUInt64(of.kind = 'usage' AND of.cost_source = 'unpriced')",
    "input_tokens": "of.input_tokens",
    "output_tokens": "of.output_tokens",
}
"""What is summed up: what an event adds to it."""


class SpendSpan(NamedTuple):
    """`[start, end)`; without an end it is open."""

    start: datetime
    end: datetime | None = None


class SpentAmounts(NamedTuple):
    """What was spent, and on how many requests."""

    usd: Decimal
    requests: int
    failures: int
    """Requests that failed."""
    unpriced: int
    """Requests without a known price; no sum of money includes them."""
    input_tokens: int
    output_tokens: int


class Spender(NamedTuple):
    """One value of each dimension of the question."""

    ids: tuple[str, ...]
    """Empty text: these requests have none."""
    names: tuple[str, ...]
    """The latest for people; empty if history has none."""
    spent: SpentAmounts


def spend_by(
    client: Client, by: Sequence[Dimension], within: SpendSpan, filters: Filters, rows: int
) -> tuple[list[Spender], int]:
    """The biggest spenders first, and how many there are."""
    source, parameters = _source(by, within, filters)
    ids = [f"id_{one}" for one in by]
    columns = [
        *(f"{_id(one)} AS id_{one}" for one in by),
        *(f"argMaxIf({name_sql(one)}, at, {name_sql(one)} != '')" for one in by),
        *(f"sum({name}) AS all_{name}" for name in _SUMS),
    ]
    found = client.query(
        f"SELECT {', '.join(columns)}, count() OVER () FROM {source} GROUP BY {', '.join(ids)}"
        f" ORDER BY all_spent_usd DESC, all_requests DESC, {', '.join(ids)} LIMIT {{rows:UInt32}}",
        parameters={**parameters, "rows": rows},
    ).result_rows
    count = len(by)
    spenders = [
        Spender(tuple(row[:count]), tuple(row[count : 2 * count]), SpentAmounts(*row[2 * count : -1]))
        for row in found
    ]
    return spenders, int(found[0][-1]) if found else 0


def total_spend(client: Client, within: SpendSpan, filters: Filters) -> SpentAmounts:
    """All of it, each request once, however many tags it has."""
    source, parameters = _source((), within, filters)
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    return SpentAmounts(*client.query(f"SELECT {sums} FROM {source}", parameters=parameters).result_rows[0])


def pieces(within: SpendSpan) -> list[tuple[str, SpendSpan]]:
    """The span in parts that are read from `by_day` or `by_hour`, and from `usage` at the edges. Pure."""
    start, end = within
    first, last = -(-(start - EPOCH) // _HOUR), None if end is None else (end - EPOCH) // _HOUR
    if last is not None and last <= first:
        return [("usage", within)]
    begin, until = EPOCH + first * _HOUR, None if last is None else EPOCH + last * _HOUR
    is_by_day = not (begin - EPOCH) % _DAY and (until is None or not (until - EPOCH) % _DAY)
    found = [("by_day" if is_by_day else "by_hour", SpendSpan(begin, until))]
    if start < begin:
        found.insert(0, ("usage", SpendSpan(start, begin)))
    if until is not None and end is not None and until < end:
        found.append(("usage", SpendSpan(until, end)))
    return found


def _source(by: Sequence[Dimension], within: SpendSpan, filters: Filters) -> tuple[str, dict[str, Any]]:
    """Rows that add up to the span, with the columns of the dimensions, and the parameters."""
    dimensions = {*by, *filters}
    parts = pieces(within) if dimensions <= ROLLED_UP else [("usage", within)]
    rows = " UNION ALL ".join(_rows(table, piece, dimensions) for table, piece in parts)
    conditions, parameters = ["1"], dict[str, Any]()
    for dimension, values in filters.items():
        parameters[f"is_{dimension}"] = [*values]
        given = f"{{is_{dimension}:Array(String)}}"
        if dimension == "tag":
            conditions.append(f"hasAny(if(empty(tags), [''], tags), {given})")
        else:
            named = f" OR {name_sql(dimension)} != '' AND has({given}, {name_sql(dimension)})"
            conditions.append(f"(has({given}, `{dimension}`){named if dimension in NAMED else ''})")
    return f"(SELECT * FROM ({rows}) WHERE {' AND '.join(conditions)})", parameters


def _rows(table: str, within: SpendSpan, dimensions: Collection[Dimension]) -> str:
    """A piece of the span: the same columns from each table."""
    is_recorded = table == "usage"
    at = "occurred_at" if is_recorded else table.removeprefix("by_")
    columns = [f"toDateTime64(of.{at}, 6, 'UTC') AS at"]
    for one in sorted(dimensions):
        columns.append(f"{_recorded(one) if is_recorded else f'of.`{one}`'} AS `{field_of(one)}`")
        columns += [f"ifNull(of.{name}, '') AS {name}" for name in NAME_COLUMNS.get(one, ())]
    columns += [f"{event if is_recorded else f'of.{name}'} AS {name}" for name, event in _SUMS.items()]
    conditions = [f"of.{at} >= {_bound(at, within.start)}"]
    if within.end is not None:
        conditions.append(f"of.{at} < {_bound(at, within.end)}")
    return (
        f"SELECT {', '.join(columns)} FROM {table} AS of{' FINAL' if is_recorded else ''}"
        f" WHERE {' AND '.join(conditions)}"
    )


def _recorded(dimension: Dimension) -> str:
    if dimension == "tag":
        return "of.tags"
    if dimension == "model":
        return _MODEL
    return f"ifNull(of.`{dimension}`, '')"


def _id(dimension: Dimension) -> str:
    return TAG_OR_NONE if dimension == "tag" else f"`{dimension}`"


def _bound(column: str, time: datetime) -> str:
    utc = time.astimezone(UTC)
    return (
        f"toDate('{utc:%Y-%m-%d}')"
        if column == "day"
        else f"toDateTime64('{utc:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
    )
