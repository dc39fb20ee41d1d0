"""What a question about sums reads: sums by day and by hour, and rows where neither fits. Pure.

The sums equal the rows (docs/decisions/0029). One counts whole or not at all, so a day or an hour that
holds an edge of the question is cut: of a cut day the hours are read, of a cut hour the rows. Edges are where
the span begins or ends, and where a piece of a chart or another span of the same question does so.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from spendmeter.history.names import NAMED, name_sql
from spendmeter.history.usage import DIMENSIONS as AS_IN_HISTORY
from spendmeter.history.usage import TAG_OR_NONE
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, Dimension
from spendmeter.values.times import to_unix_us
from spendmeter_console.history.spans import TimeSpan

OF_KEYS: frozenset[Dimension] = frozenset(("key", "user"))
"""Where these do not matter there are sums of far fewer rows."""
OF_A_ROW: dict[Dimension, str] = {d: f"ifNull({AS_IN_HISTORY[d]}, '')" for d in DIMENSIONS} | {
    "key": "key",
    "tag": TAG_OR_NONE,
}
"""The value of a dimension, of a row of `usage`."""
_COUNTS_OF_A_ROW = (
    "cost_usd AS spent_usd, toUInt64(kind = 'usage') AS requests, input_tokens, output_tokens,"
    " toUInt64(kind = 'usage' AND cost_source = 'unpriced') AS unpriced,"
    " toUInt64(kind != 'usage') AS corrections"
)
_COUNTS_OF_A_SUM = "spent_usd, requests, input_tokens, output_tokens, unpriced, corrections"
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class Condition(NamedTuple):
    """A condition on a dimension: as it is for a row of `usage`, and for a sum that knows it."""

    dimension: Dimension
    of_a_row: str
    of_a_sum: str

    @property
    def is_first(self) -> bool:
        """Whether all copies of an event agree on it, so that it may be checked before they are compared."""
        return self.dimension == "key"


class Cut(NamedTuple):
    """The beginnings of days and hours that hold an edge, in UTC."""

    days: list[datetime]
    hours: list[datetime]


def cut(span: TimeSpan, edges: Iterable[datetime] = ()) -> Cut:
    """The days and hours with an edge after their own beginning. The span's start and end are edges."""
    within = {span.start, span.end, *(edge for edge in edges if span.start < edge < span.end)}
    days = {_day(edge) for edge in within if edge != _day(edge)}
    hours = {_hour(edge) for edge in within if edge != _hour(edge)}
    return Cut(sorted(days), sorted(hours))


def source_of_sums(
    span: TimeSpan,
    edges: Iterable[datetime],
    dimensions: Iterable[Dimension],
    conditions: Sequence[Condition],
) -> tuple[str, dict[str, Any]]:
    """A table in brackets and its parameters: `at`, values `v_…` and names `n_…` of the dimensions, counts.

    `at` is when a row was, or where its hour or day begins: on the same side of each edge.
    """
    wanted = sorted(set(dimensions))
    parameters: dict[str, Any] = {"start_us": to_unix_us(span.start), "end_us": to_unix_us(span.end)}
    of_conditions = {one.dimension for one in conditions}
    # `usage` lies in the order of days and keys: of one key its rows are found sooner than its sums.
    # What clients make up is in no sum.
    if CLIENT_MADE & {*wanted, *of_conditions} or "key" in of_conditions:
        return f"({_rows(wanted, conditions, [])})", parameters
    held, parts = cut(span, edges), list[str]()
    sums = "usage_by" if OF_KEYS & {*wanted, *of_conditions} else "usage_teams_by"
    first, last = _day(span.start), _ceiling(span.end, _DAY)
    parameters |= {
        "first_day": f"{first:%Y-%m-%d}",
        "last_day": f"{last:%Y-%m-%d}",
        "cut_days": [f"{one:%Y-%m-%d}" for one in held.days],
        "cut_hours": [int(one.timestamp()) for one in held.hours],
    }
    if (last - first) // _DAY > len(held.days):
        within = "day >= {first_day:Date} AND day < {last_day:Date} AND day NOT IN {cut_days:Array(Date)}"
        parts.append(_sums(f"{sums}_day", "since", wanted, conditions, within))
    if sum(_hours_within(day, span) for day in held.days) > len(held.hours):
        within = (
            "hour >= toStartOfHour(fromUnixTimestamp64Micro({start_us:Int64}, 'UTC'))"
            " AND hour < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')"
            " AND toDate(hour) IN {cut_days:Array(Date)}"
            " AND toUnixTimestamp(hour) NOT IN {cut_hours:Array(UInt32)}"
        )
        parts.append(_sums(f"{sums}_hour", "hour", wanted, conditions, within))
    if held.hours:
        parameters["row_days"] = sorted({f"{one:%Y-%m-%d}" for one in held.hours})
        within_hours = [
            "toDate(occurred_at) IN {row_days:Array(Date)}",
            "toUnixTimestamp(toStartOfHour(occurred_at)) IN {cut_hours:Array(UInt32)}",
        ]
        parts.append(_rows(wanted, conditions, within_hours))
    return f"({' UNION ALL '.join(parts)})", parameters


def _sums(
    view: str, start: str, wanted: Sequence[Dimension], conditions: Sequence[Condition], within: str
) -> str:
    columns = [f"toDateTime64({start}, 6, 'UTC') AS at", *(f"`{one}` AS v_{one}" for one in wanted)]
    columns += [f"{name_sql(one)} AS n_{one}" for one in wanted if one in NAMED]
    held = " AND ".join([within, *(one.of_a_sum for one in conditions)])
    return f"SELECT {', '.join(columns)}, {_COUNTS_OF_A_SUM} FROM {view} WHERE {held}"


def _rows(wanted: Sequence[Dimension], conditions: Sequence[Condition], within: Sequence[str]) -> str:
    columns = ["occurred_at AS at", *(f"{OF_A_ROW[one]} AS v_{one}" for one in wanted)]
    columns += [f"{name_sql(one)} AS n_{one}" for one in wanted if one in NAMED]
    return rows_of_usage(conditions, within, f"{', '.join(columns)}, {_COUNTS_OF_A_ROW}")


def rows_of_usage(
    conditions: Sequence[Condition], of_identity: Iterable[str], columns: str, *, final: bool = True
) -> str:
    """What reads rows of `usage` in the span of `start_us` and `end_us`, each event once if `final`.

    What all copies share is checked first, so that of the others only this one column is read.
    """
    first = [in_span(), *of_identity, *(one.of_a_row for one in conditions if one.is_first)]
    then = [one.of_a_row for one in conditions if not one.is_first]
    where = f" WHERE {' AND '.join(then)}" if then else ""
    return f"SELECT {columns} FROM usage{' FINAL' if final else ''} PREWHERE {' AND '.join(first)}{where}"


def in_span(time: str = "occurred_at") -> str:
    """The condition that a time is in the span of `start_us` and `end_us`."""
    return (
        f"{time} >= fromUnixTimestamp64Micro({{start_us:Int64}}, 'UTC')"
        f" AND {time} < fromUnixTimestamp64Micro({{end_us:Int64}}, 'UTC')"
    )


def _hours_within(day: datetime, span: TimeSpan) -> int:
    begin, end = max(day, _hour(span.start)), min(day + _DAY, _ceiling(span.end, _HOUR))
    return (end - begin) // _HOUR


def _hour(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _day(time: datetime) -> datetime:
    return _hour(time).replace(hour=0)


def _ceiling(time: datetime, step: timedelta) -> datetime:
    begin = _day(time) if step == _DAY else _hour(time)
    return begin if begin == time else begin + step
