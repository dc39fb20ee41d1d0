"""Where a panel about spend reads: whole days from the sums by day, and hours for the rest. Pure.

A day of UTC that lies in the span whole is read from the sums by day, any other hour that the span touches
from those by hour, of which there are far more. Of teams and models there are sums without keys, far fewer of
them. What chosen keys spent is read from their events, which lie together. No two parts share an hour.
"""

from collections.abc import Sequence
from typing import NamedTuple

from spendmeter_grafana.sql import OTHERS, TOP, ZONE, all_are_chosen, name, only, where

Variables = Sequence[str]
"""Those of the dashboard's variables by which a panel is filtered: team, key, model."""

PIECE_SECONDS = "if($__interval_s = 43200, 86400, $__interval_s)"
"""How long a piece of a chart is. Not half a day: that takes the hours of a month, and shows no more."""
PIECE = f"toStartOfInterval(spend.hour, toIntervalSecond({PIECE_SECONDS}), 'UTC')"
"""Where the piece begins that a row of a chart's source is in."""
_PIECES_ARE_DAYS = f"{PIECE_SECONDS} % 86400 = 0"
_EVENTS = "toInt64(requests + corrections) AS events"
_OF_KEYS = frozenset(("key", "key_alias", "user", "user_alias"))
_USD_AND_EVENTS = f"spent_usd AS usd, {_EVENTS}"


class SqlSpan(NamedTuple):
    """Where it begins and ends, in SQL. An hour that it touches counts whole."""

    start: str = "$__fromTime"
    end: str = "$__toTime"

    @property
    def hours(self) -> str:
        """A condition: an hour that the span touches."""
        return f"hour >= toStartOfHour({self.start}, 'UTC') AND hour < {self.end}"

    @property
    def first_day(self) -> str:
        """The first day of UTC that the span has whole, if it has one."""
        return f"toDate(toStartOfHour({self.start}, 'UTC') - 1, 'UTC') + 1"

    @property
    def days_end(self) -> str:
        """The day after the last that it has whole."""
        return f"toDate(toStartOfHour({self.end} + 3599, 'UTC'), 'UTC')"

    @property
    def days(self) -> str:
        """A condition: a day of UTC that the span has whole."""
        return self._has_whole("day")

    @property
    def hours_of_days(self) -> str:
        """A condition: an hour of such a day."""
        return self._has_whole("toDate(hour)")

    def _has_whole(self, day: str) -> str:
        return f"{day} >= {self.first_day} AND {day} < {self.days_end}"


RANGE = SqlSpan()
"""The range that the dashboard shows."""


def spend(columns: str, variables: Variables, span: SqlSpan = RANGE, *, in_pieces: bool = False) -> str:
    """A table in brackets with columns of `by_hour`, in any number of rows, to be added up.

    Args:
        columns: a list in SQL. If `hour` is in it, it is the first.
        in_pieces: `hour` is in the right piece of a chart; else it only orders names.
    """
    days, cut = span.days, f"NOT ({span.hours_of_days})"
    if in_pieces:
        days, cut = f"{_PIECES_ARE_DAYS} AND {days}", f"NOT ({_PIECES_ARE_DAYS} AND {span.hours_of_days})"
    of_day = columns.replace("hour,", "toDateTime(day, 'UTC') AS hour,")
    if not _OF_KEYS & set(columns.split(", ")):
        return _union(
            [
                _part(of_day, "by_team_model_day", [days], variables),
                _part(columns, "by_team_model_hour", [span.hours, cut], variables),
                *_of_chosen_keys(columns, span, variables),
            ]
        )
    models = [all_are_chosen("model")] if "model" in variables else []
    of_teams = _without("model", variables)
    if in_pieces:
        of_keys = _part(of_day, "by_key_day", [*models, days], of_teams)
    else:
        view = f"by_key_between(first_day = {span.first_day}, days_end = {span.days_end})"
        of_keys = _part(columns.replace("hour,", "since AS hour,"), view, models, of_teams)
    return _union(
        [
            of_keys,
            *(_part(of_day, "by_day", [f"NOT {one}", days], variables) for one in models),
            _part(columns, "by_hour", [span.hours, cut], variables),
            *_of_chosen_keys(columns, span, variables),
        ]
    )


def spend_of_top_keys(variables: Variables) -> str:
    """A chart's source in brackets, to be added up: `hour`, `name`, `usd` and `events`.

    A month has millions of sums of keys. All keys together need none of them, and the others are all less
    those that have a series.
    """
    top = (
        f"SELECT key\nFROM\n{spend('key, spent_usd', variables)}\n"
        f"GROUP BY key\nORDER BY sum(spent_usd) DESC, key\nLIMIT {TOP}"
    )
    of_keys = spend("hour, key, key_alias, spent_usd, requests, corrections", variables, in_pieces=True)
    of_all = spend("hour, spent_usd, requests, corrections", variables, in_pieces=True)
    of_top = (
        f"SELECT hour, {name('key', over='key')} AS name, spent_usd AS usd, {_EVENTS}\n"
        f"FROM\n{of_keys}\nWHERE key IN\n(\n{top}\n)"
    )
    added = f"SELECT hour, usd, events, arrayJoin([(name, 1), ('{OTHERS}', -1)]) AS one\nFROM\n(\n{of_top}\n)"
    return (
        f"(\nSELECT hour, '{OTHERS}' AS name, {_USD_AND_EVENTS}\nFROM\n{of_all}\nUNION ALL\n"
        f"SELECT hour, one.1 AS name, usd * one.2 AS usd, events * one.2 AS events\nFROM\n(\n{added}\n)\n)"
    )


def spend_by_day(variables: Variables) -> str:
    """A table in brackets, to be added up: `time`, where a day of the chosen zone begins, `usd` and `events`.

    A day of UTC counts for the zone's day that its noon is in. Of the hours that the zone has in another day
    each is added to that one and taken from this one.
    """
    own, other = f"toStartOfDay(hour, {ZONE})", _day_of_noon("toDate(hour)")
    cut = f"NOT ({RANGE.hours_of_days})"
    moved = f"arrayJoin(if({cut}, [({own}, 1)], [({own}, 1), ({other}, -1)]))"
    of_day = f"{_day_of_noon('day')} AS time, {_USD_AND_EVENTS}"
    of_hour = (
        f"({moved} AS moved).1 AS time, spent_usd * moved.2 AS usd,"
        " toInt64(requests + corrections) * moved.2 AS events"
    )
    hours = [RANGE.hours, f"({cut} OR {own} != {other})"]
    return _union(
        [
            _part(of_day, "by_team_model_day", [RANGE.days], variables),
            _part(of_hour, "by_team_model_hour", hours, variables),
            *_of_chosen_keys(f"{own} AS time, {_USD_AND_EVENTS}", RANGE, variables),
        ]
    )


def _day_of_noon(day: str) -> str:
    return f"toStartOfDay(toDateTime({day}, 'UTC') + 43200, {ZONE})"


def _of_chosen_keys(columns: str, span: SqlSpan, variables: Variables) -> list[str]:
    """The part with chosen keys, if a key can be chosen."""
    if "key" not in variables:
        return []
    conditions = [f"NOT {all_are_chosen('key')}", span.hours, only("key")]
    return [_part(columns, "entries", conditions, _without("key", variables), is_of_keys=True)]


def _part(
    columns: str, view: str, conditions: Sequence[str], variables: Variables, is_of_keys: bool = False
) -> str:
    of_all_keys = [all_are_chosen("key")] if "key" in variables and not is_of_keys else []
    chosen = map(only, _without("key", variables))
    held = [*of_all_keys, *conditions, *chosen]
    lines = [f"SELECT {columns}", f"FROM {view}", *(where(*held).split("\n") if held else [])]
    return "\n".join(f"    {line}" for line in lines)


def _union(parts: Sequence[str]) -> str:
    return "(\n" + "\n    UNION ALL\n".join(parts) + "\n)"


def _without(one: str, variables: Variables) -> list[str]:
    return [variable for variable in variables if variable != one]
