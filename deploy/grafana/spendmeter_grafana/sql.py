"""Pieces of SQL that several panels have in common. Pure.

No query calls a result by the name of a column that it filters by: ClickHouse would filter by the result.

Sums over time are read from `by_hour`: each hour that the range touches, whole. Everything else is exact to
the second. What Grafana and its data source for ClickHouse replace begins with `$`.
"""

NONE = "(none)"
"""What requests without a team, a user and so on are shown and chosen under: Grafana has no empty choice."""

TOP = 10
"""Series of a chart; the others are one."""

HOURS = "hour >= toStartOfHour($__fromTime, 'UTC') AND hour < $__toTime"
SECONDS = "$__timeFilter({})"
ZONE = "${zone:singlequote}"
WHOLE_HOURS = (
    f"throwIf(toUnixTimestamp(toStartOfDay($__toTime, {ZONE})) % 3600 != 0,"
    " 'midnight of this zone is no whole hour of UTC, and sums are by hour: choose another zone') = 0"
)
"""Holds, or the query fails with a sentence: a day that is half an hour off would only look right."""

MONTH_START = f"toDateTime(toStartOfMonth(toTimeZone($__toTime - 1, {ZONE})), {ZONE})"
"""Of the month in which the range ends, by the chosen zone."""
LAST_MONTH_START = f"toDateTime(toStartOfMonth(toTimeZone($__toTime - 1, {ZONE})) - INTERVAL 1 MONTH, {ZONE})"


def only(variable: str, column: str = "") -> str:
    """A condition: the column has one of the chosen values, or all are chosen.

    Values come encoded as in a URL: quoted as SQL, one with a backslash would end the text that it stands in.
    """
    values = (
        "arrayMap(one -> decodeURLComponent(splitByChar('=', one)[2]),"
        f" splitByChar('&', '${{{variable}:queryparam}}'))"
    )
    return f"$__conditionalAll(has({values}, {choice(column or variable)}), ${variable})"


def choice(column: str) -> str:
    """A value as it is chosen."""
    return f"if({column} = '', '{NONE}', {column})"


def name(of: str, time: str = "hour") -> str:
    """What people call a team, a key, a user: the latest alias, else the id, of a key its beginning."""
    alias = f"{of}_alias"
    latest = f"argMaxIf({alias}, {time}, {alias} != '')"
    return f"coalesce(nullIf({latest}, ''), nullIf({short(of)}, ''), '{NONE}')"


def short(of: str) -> str:
    """The id, of a key as much of its hash as a person compares."""
    return f"substring({of}, 1, 12)" if of == "key" else of


def where(*conditions: str) -> str:
    """The lines of a WHERE."""
    return "WHERE " + "\n    AND ".join(conditions)
