"""What a question about spend reads: sums by day and by hour, and rows where neither fits. Pure.

The sums equal the rows (docs/decisions/0029). One counts whole or not at all. An edge is where a question's
span begins or ends, or a piece of its chart, or another span of the same question. Of a day that holds one
the hours are read, of an hour that holds one the rows. A day with a single edge, between two pieces, is read
as a day all the same, and what lies on the shorter side of it is moved (docs/decisions/0049).
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from spendmeter.history.names import NAMED, name_sql
from spendmeter.history.usage import DIMENSIONS as AS_IN_HISTORY
from spendmeter.history.usage import TAG_OR_NONE
from spendmeter.values.dimensions import CLIENT_MADE, DIMENSIONS, Dimension
from spendmeter.values.times import TimeSpan, to_unix_us

OF_KEYS: Final[frozenset[Dimension]] = frozenset(("key", "user"))
"""Where these do not matter there are sums of far fewer rows."""
OF_A_ROW: Final[dict[Dimension, str]] = {d: f"ifNull({AS_IN_HISTORY[d]}, '')" for d in DIMENSIONS} | {
    "key": "key",
    "tag": TAG_OR_NONE,
}
"""The value of a dimension, of a row of `usage`."""
SETTLED_AFTER: Final = timedelta(days=2)
"""Before the end of a span: what comes while it is read must not be moved from where it was not yet."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_COUNTS: Final[dict[str, str]] = {
    "spent_usd": "cost_usd",
    "requests": "kind = 'usage'",
    "failures": "kind = 'usage' AND status = 'failure'",
    "unpriced": "kind = 'usage' AND cost_source = 'unpriced'",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "corrections": "kind != 'usage'",
}
"""What is summed up: what a row adds to it."""


class Condition(NamedTuple):
    """A condition on a dimension: as it is for a row of `usage`, and for a sum that knows it."""

    dimension: Dimension
    of_a_row: str
    of_a_sum: str
    is_first: bool = False
    """It asks for keys by their ids: all copies of an event agree on it, and rows lie in that order."""


class DayEdge(NamedTuple):
    """A day that is read as one sum though a piece ends inside it."""

    day: datetime
    counts_at: datetime
    """A moment on the longer side of the edge, where its sum counts."""
    moved: list[datetime]
    """Hours on the shorter side, and the one that the edge cuts."""


class ReadingPlan(NamedTuple):
    """The beginnings of days and hours that are not read as one sum, in UTC."""

    cut_days: list[datetime]
    cut_hours: list[datetime]
    """Those within cut days: of these the rows are read."""
    shared_days: list[DayEdge]
    shared_hours: list[datetime]
    """Hours within shared days that an edge cuts."""


def held_to(
    dimension: Dimension, values: Collection[str], *, by_name: bool = False
) -> tuple[Condition, dict[str, Any]]:
    """That a request has one of these values, or an empty one: none; with the parameters.

    `by_name`: what people call a value counts as well as the value.
    """
    given = f"{{is_{dimension}:Array(String)}}"
    parameters = {f"is_{dimension}": [*values]}
    if dimension == "tag":
        return Condition("tag", f"hasAny(if(empty(tags), [''], tags), {given})", ""), parameters
    name = name_sql(dimension)
    named = f" OR {name} != '' AND {name} IN {given}" if by_name and dimension in NAMED else ""
    of_a_row, of_a_sum = (f"({it} IN {given}{named})" for it in (OF_A_ROW[dimension], f"`{dimension}`"))
    return Condition(dimension, of_a_row, of_a_sum, is_first=dimension == "key" and not named), parameters


def reading_plan(span: TimeSpan, edges: Iterable[datetime] = ()) -> ReadingPlan:
    """What is cut, and what is shared. The span's start and end are edges, too."""
    inner = {edge for edge in edges if span.start < edge < span.end}
    cut_days = {_day(edge) for edge in (span.start, span.end) if edge != _day(edge)}
    of_day: dict[datetime, list[datetime]] = {}
    for edge in sorted(inner):
        if edge != _day(edge):
            of_day.setdefault(_day(edge), []).append(edge)
    shared_days = [
        _shared(day, held[0])
        for day, held in of_day.items()
        if len(held) == 1 and day not in cut_days and day + _DAY <= span.end - SETTLED_AFTER
    ]
    cut_days |= of_day.keys() - {one.day for one in shared_days}
    hours = {_hour(edge) for edge in (span.start, span.end, *inner) if edge != _hour(edge)}
    return ReadingPlan(
        sorted(cut_days),
        sorted(hour for hour in hours if _day(hour) in cut_days),
        shared_days,
        sorted(hour for hour in hours if _day(hour) not in cut_days),
    )


def _shared(day: datetime, edge: datetime) -> DayEdge:
    is_early = edge - day <= _DAY / 2
    first, last = (day, edge) if is_early else (_hour(edge), day + _DAY)
    hours = [first + n * _HOUR for n in range((_ceiling(last, _HOUR) - first) // _HOUR)]
    return DayEdge(day, edge if is_early else day, hours)


def source_of_sums(
    span: TimeSpan,
    edges: Iterable[datetime],
    dimensions: Iterable[Dimension],
    conditions: Sequence[Condition],
) -> tuple[str, dict[str, Any]]:
    """A table in brackets and its parameters: `at`, `counts_at`, values `v_…` and names `n_…`, counts.

    `at` is when a row was, or where its hour or day begins; `counts_at` is on the same side of each edge as
    what it counts. What is moved is there twice: once it is subtracted, as what the day's sum has too much.
    """
    wanted = sorted(set(dimensions))
    parameters: dict[str, Any] = {"start_us": to_unix_us(span.start), "end_us": to_unix_us(span.end)}
    of_conditions = {one.dimension for one in conditions}
    # `usage` lies in the order of days and keys: of one key its rows are found sooner than its sums.
    # What clients make up is in no sum.
    of_rows = CLIENT_MADE & {*wanted, *of_conditions} or any(one.is_first for one in conditions)
    if of_rows or span.start >= span.end:
        return f"({_rows(wanted, conditions, [])})", parameters
    plan, parts = reading_plan(span, edges), list[str]()
    sums = "usage_by" if OF_KEYS & {*wanted, *of_conditions} else "usage_teams_by"
    first, last = _day(span.start), _ceiling(span.end, _DAY)
    parameters |= {"first_day": f"{first:%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}
    parameters |= _lists(plan)
    if (last - first) // _DAY > len(plan.cut_days):
        within = "day >= {first_day:Date} AND day < {last_day:Date} AND day NOT IN {cut_days:Array(Date)}"
        parts.append(_sums(f"{sums}_day", wanted, conditions, within, has_shared=bool(plan.shared_days)))
    if sum(_hours_within(day, span) for day in plan.cut_days) > len(plan.cut_hours):
        within = (
            "hour >= toStartOfHour(fromUnixTimestamp64Micro({start_us:Int64}, 'UTC'))"
            " AND hour < fromUnixTimestamp64Micro({end_us:Int64}, 'UTC')"
            " AND toDate(hour) IN {cut_days:Array(Date)}"
            " AND toUnixTimestamp(hour) NOT IN {cut_hours:Array(UInt32)}"
        )
        parts.append(_sums(f"{sums}_hour", wanted, conditions, within))
    if plan.cut_hours:
        parts.append(_rows(wanted, conditions, _of_hours("cut_hours")))
    if plan.shared_days:
        within = "toUnixTimestamp(hour) IN {moved_hours:Array(UInt32)}"
        moved = [_sums(f"{sums}_hour", wanted, conditions, within)]
        if plan.shared_hours:
            moved.append(_rows(wanted, conditions, _of_hours("shared_hours")))
        parts.append(_moved(wanted, " UNION ALL ".join(moved)))
    return f"({' UNION ALL '.join(parts)})", parameters


def _lists(plan: ReadingPlan) -> dict[str, Any]:
    def unix(times: Iterable[datetime]) -> list[int]:
        return [int(one.timestamp()) for one in times]

    def days(times: Iterable[datetime]) -> list[str]:
        return sorted({f"{one:%Y-%m-%d}" for one in times})

    moved = {hour for one in plan.shared_days for hour in one.moved} - {*plan.shared_hours}
    return {
        "cut_days": days(plan.cut_days),
        "cut_hours": unix(plan.cut_hours),
        "days_of_cut_hours": days(plan.cut_hours),
        "shared_hours": unix(plan.shared_hours),
        "days_of_shared_hours": days(plan.shared_hours),
        "moved_hours": unix(sorted(moved)),
        "shared_days": unix(one.day for one in plan.shared_days),
        "shared_at": [to_unix_us(one.counts_at) for one in plan.shared_days],
    }


def _sums(
    view: str,
    wanted: Sequence[Dimension],
    conditions: Sequence[Condition],
    within: str,
    *,
    has_shared: bool = False,
) -> str:
    start = "toDateTime64(hour, 6, 'UTC')" if view.endswith("_hour") else "toDateTime64(since, 6, 'UTC')"
    counts_at = _of_shared_day("toDateTime(day, 'UTC')", start) if has_shared else start
    columns = [f"{start} AS at", f"{counts_at} AS counts_at", *_values(wanted, "`{}`")]
    columns += [name if name == "spent_usd" else f"toInt64({name}) AS {name}" for name in _COUNTS]
    held = " AND ".join([within, *(one.of_a_sum for one in conditions)])
    return f"SELECT {', '.join(columns)} FROM {view} WHERE {held}"


def _rows(wanted: Sequence[Dimension], conditions: Sequence[Condition], within: Sequence[str]) -> str:
    columns = ["occurred_at AS at", "occurred_at AS counts_at", *_values(wanted, None)]
    columns += [
        f"{of_a_row if name == 'spent_usd' else f'toInt64({of_a_row})'} AS {name}"
        for name, of_a_row in _COUNTS.items()
    ]
    return rows_of_usage(conditions, within, ", ".join(columns))


def _moved(wanted: Sequence[Dimension], parts: str) -> str:
    """What counts where it was, and once more as less than nothing where its day's sum counts."""
    of_day = _of_shared_day("toDateTime(toStartOfDay(of.at, 'UTC'), 'UTC')", "of.at")
    columns = ["of.at AS at", f"if(sign = 1, of.at, {of_day}) AS counts_at"]
    columns += [f"of.v_{one} AS v_{one}" for one in wanted]
    # The day's own sum has names already.
    columns += [f"if(sign = 1, of.n_{one}, '') AS n_{one}" for one in wanted if one in NAMED]
    columns += [f"of.{name} * sign AS {name}" for name in _COUNTS]
    return f"SELECT {', '.join(columns)} FROM ({parts}) AS of ARRAY JOIN [1, -1] AS sign"


def _of_shared_day(day: str, otherwise: str) -> str:
    known = f"indexOf({{shared_days:Array(UInt32)}}, toUnixTimestamp({day}))"
    at = f"fromUnixTimestamp64Micro({{shared_at:Array(Int64)}}[{known}], 'UTC')"
    return f"if({known} = 0, {otherwise}, {at})"


def _values(wanted: Sequence[Dimension], of_a_sum: str | None) -> list[str]:
    values = [f"{of_a_sum.format(one) if of_a_sum else OF_A_ROW[one]} AS v_{one}" for one in wanted]
    return [*values, *(f"{name_sql(one)} AS n_{one}" for one in wanted if one in NAMED)]


def _of_hours(name: str) -> list[str]:
    return [
        f"toDate(occurred_at) IN {{days_of_{name}:Array(Date)}}",
        f"toUnixTimestamp(toStartOfHour(occurred_at)) IN {{{name}:Array(UInt32)}}",
    ]


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


def in_span(time: str = "occurred_at", start: str = "start_us", end: str = "end_us") -> str:
    """The condition that a time is between two parameters."""
    return (
        f"{time} >= fromUnixTimestamp64Micro({{{start}:Int64}}, 'UTC')"
        f" AND {time} < fromUnixTimestamp64Micro({{{end}:Int64}}, 'UTC')"
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
