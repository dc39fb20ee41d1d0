"""What leaves history as a file: which query gives it, in pieces that each fit in memory. Pure.

Text that a spreadsheet would run as a formula gets an apostrophe in front, in CSV and FOCUS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from spendmeter.history.focus import FOCUS_COLUMNS
from spendmeter.values.times import parse_time, time_zones

Format = Literal["csv", "jsonl", "parquet", "focus"]
FORMATS: Final = ("csv", "jsonl", "parquet", "focus")
_NATIVE: Final = {"csv": "CSV", "focus": "CSV", "jsonl": "JSONEachRow", "parquet": "Parquet"}

_ALIASES: Final = {
    "team": "team_alias",
    "key": "key_alias",
    "user": "user_alias",
    "organization": "organization_alias",
    "project": "project_alias",
}
_PERIODS: Final = ("hour", "day", "month")
GROUPS: Final = (*_PERIODS, *_ALIASES, "provider", "model", "model_group", "gateway")
"""What can be summed up by."""
COUNTS: Final = (
    *("requests", "failures", "unpriced", "estimated", "corrections"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
)
_TEXTS: Final = (
    *("key", "key_alias", "user", "user_alias", "user_email", "team", "team_alias"),
    *("organization", "organization_alias", "project", "project_alias", "end_user"),
    *("model", "model_group", "provider", "deployment", "call_type", "session", "gateway"),
)
_EVENT: Final = (
    *("event_id", "occurred_at", "started_at", *_TEXTS, "tags"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"),
    *("spent_usd", "recorded_usd", "corrections", "is_void", "cost_source", "cost_doubt", "status"),
    *("estimated", "streamed", "cache_hit", "duration_ms", "call_id", "response_id", "object_id"),
)
_FREE_TEXTS: Final = frozenset({*_TEXTS, "call_id", "response_id", "object_id"})
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class InvalidExport(ValueError):
    """There is nothing of that name or time; the message says what to write instead."""


class Piece(NamedTuple):
    """One query of an export and the format that ClickHouse answers it in."""

    sql: str
    format: str


def parse_zone(text: str) -> ZoneInfo:
    """The time zone of that IANA name.

    Raises:
        InvalidExport: there is none.
    """
    if text not in time_zones():
        raise InvalidExport(f"{text!r} is no time zone; write an IANA name, such as Europe/Berlin")
    return ZoneInfo(text)


def parse_moment(text: str, zone: tzinfo) -> datetime:
    """A date as its midnight in the zone, or a time with its offset.

    Raises:
        InvalidExport: it is neither.
    """
    try:
        if len(text) == len("2026-11-01"):
            return datetime.combine(date.fromisoformat(text), time(), zone).astimezone(UTC)
        return parse_time(text)
    except (ValueError, OverflowError):
        raise InvalidExport(
            f"{text!r} is no date; write one such as 2026-11-01, or a time such as 2026-11-01T08:00:00Z"
        ) from None


def parse_month(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """A month such as 2026-11 as its first moment in the zone, and the first after it.

    Raises:
        InvalidExport: it is none.
    """
    try:
        if len(text) != len("2026-11"):
            raise ValueError
        first = date.fromisoformat(f"{text}-01")
        after = (first + 31 * _DAY).replace(day=1)
        start, end = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (first, after))
    except (ValueError, OverflowError):
        raise InvalidExport(f"{text!r} is no month; write one such as 2026-11") from None
    return start, end


def parse_groups(text: str) -> tuple[str, ...]:
    """Names that sums are made by, each once.

    Raises:
        InvalidExport: one is not known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in GROUPS:
            raise InvalidExport(f"there are no sums by {name!r}; write some of {', '.join(GROUPS)}")
    if not names:
        raise InvalidExport(f"--by names nothing; write some of {', '.join(GROUPS)}")
    return names


@dataclass(frozen=True, slots=True)
class Export:
    """What is wanted of `[start, end)`; `by` empty: single requests."""

    start: datetime
    end: datetime
    format: Format
    by: tuple[str, ...] = ()
    zone: str = "UTC"
    """Whose days and months sums are by."""

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise InvalidExport("--to is not after --from; the first moment that is left out comes last")
        if self.format == "focus" and (self.by or self.zone != "UTC"):
            raise InvalidExport("FOCUS has its own columns, by day in UTC; leave out --by and --timezone")
        if self.format == "focus" and not _are_whole((self.start, self.end), _DAY):
            raise InvalidExport("FOCUS is by whole days in UTC; give --from and --to as dates")
        if self.by and not _are_whole((self.start, self.end), _HOUR):
            raise InvalidExport(
                "sums are by whole hours of UTC; give such times, or leave out --by for single requests"
            )

    def pieces(self) -> Iterator[Piece]:
        """The queries, whose answers one behind the other are the file."""
        native = _NATIVE[self.format]
        if self.by:
            yield Piece(self._sums(), "CSVWithNames" if native == "CSV" else native)
            return
        # A file of Parquet ends with its index: it cannot be put together.
        spans = [(self.start, self.end)] if self.format == "parquet" else list(_days(self.start, self.end))
        for number, (start, end) in enumerate(spans):
            select = self._focus if self.format == "focus" else self._events
            yield Piece(select(start, end), "CSVWithNames" if native == "CSV" and not number else native)

    def _events(self, start: datetime, end: datetime) -> str:
        columns = ", ".join(self._column(name) for name in _EVENT)
        # To sort a month all of it would have to be in memory.
        order = "" if self.format == "parquet" else " ORDER BY of.occurred_at, of.event_id"
        return (
            f"SELECT {columns} FROM events AS of WHERE of.occurred_at >= {_literal(start)}"
            f" AND of.occurred_at < {_literal(end)}{order}"
        )

    def _column(self, name: str) -> str:
        if self.format == "jsonl" and name.endswith("_usd"):
            return f"toDecimalString(of.{name}, 9) AS {name}"
        if self.format == "csv" and name == "tags":
            return f"{_harmless('toJSONString(of.tags)')} AS tags"
        if self.format == "csv" and name in _FREE_TEXTS:
            return f"{_harmless(f'of.{name}')} AS {name}"
        return f"of.{name} AS {name}"

    def _sums(self) -> str:
        is_by_day = self.zone == "UTC" and "hour" not in self.by and _are_whole((self.start, self.end), _DAY)
        at, source = ("day", "by_day") if is_by_day else ("hour", "by_hour")
        moment = "toDateTime(of.day, 'UTC')" if is_by_day else "of.hour"
        periods = {
            "hour": moment,
            "day": f"toDate({moment}, '{self.zone}')",
            "month": f"formatDateTime({moment}, '%Y-%m', '{self.zone}')",
        }
        columns = []
        for name in self.by:
            columns.append(f"{periods[name]} AS {name}" if name in periods else self._column(name))
            if alias := _ALIASES.get(name):
                latest = f"argMaxIf(of.{alias}, of.{at}, of.{alias} != '')"
                columns.append(f"{_harmless(latest) if self.format == 'csv' else latest} AS {alias}")
        columns += [f"sum(of.{name}) AS {name}" for name in COUNTS]
        spent = "sum(of.spent_usd)"
        columns.append(
            f"toDecimalString({spent}, 9) AS spent_usd" if self.format == "jsonl" else f"{spent} AS spent_usd"
        )
        start, end = (
            (f"toDate('{self.start:%Y-%m-%d}')", f"toDate('{self.end:%Y-%m-%d}')")
            if is_by_day
            else (_literal(self.start), _literal(self.end))
        )
        groups = ", ".join(f"`{name}`" for name in self.by)
        return (
            f"SELECT {', '.join(columns)} FROM {source} AS of WHERE of.{at} >= {start} AND of.{at} < {end}"
            f" GROUP BY {groups} ORDER BY {groups}"
        )

    @staticmethod
    def _focus(start: datetime, end: datetime) -> str:
        columns = [f"{_focus_column(sql)} AS {name}" for name, sql in FOCUS_COLUMNS.items()]
        return (
            f"SELECT {', '.join(columns)} FROM by_day WHERE day >= toDate('{start:%Y-%m-%d}')"
            f" AND day < toDate('{end:%Y-%m-%d}')"
            " ORDER BY day, organization, team, key, provider, model, user, project, model_group, gateway"
        )


_OURS: Final = ("'", "toDecimalString", "toString", "formatDateTime", "toJSONString", "concat(toString")
"""Begins what holds nothing that somebody else could begin."""


def _focus_column(sql: str) -> str:
    if not sql:
        return "NULL"
    return sql if sql.startswith(_OURS) else _harmless(sql)


def _harmless(sql: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"if(match(toString({sql}), '^[=+@\\\\t\\\\r-]'), concat('''', toString({sql})), toString({sql}))"


def _literal(moment: datetime) -> str:
    return f"toDateTime64('{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"


def _are_whole(moments: Sequence[datetime], unit: timedelta) -> bool:
    midnight = datetime(1970, 1, 1, tzinfo=UTC)
    return not any((moment - midnight) % unit for moment in moments)


def _days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The span cut at midnights of UTC."""
    while start < end:
        midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(midnight + _DAY, end)
        yield start, until
        start = until
