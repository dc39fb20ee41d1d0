"""Pieces of SQL that several panels have in common. Pure.

No query calls a result by the name of a column that it filters by: ClickHouse would filter by the result.

Sums over time are of hours: each hour that the range touches, whole (`source.py`). Everything else is exact
to the second. What Grafana and its data source for ClickHouse replace begins with `$`.
"""

NONE = "(none)"
"""What requests without a team, a user and so on are shown and chosen under: Grafana has no empty choice."""

TOP = 10
"""Series of a chart; the others are one."""
OTHERS = "all others"
"""What that one is called."""

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
    What is chosen is made to what the column holds, and a set, so that ClickHouse reads little else.
    """
    values = (
        "arrayMap(one -> decodeURLComponent(splitByChar('=', one)[2]),"
        f" splitByChar('&', '${{{variable}:queryparam}}'))"
    )
    held = f"arrayFlatten(arrayMap(one -> if(one = '{NONE}', ['', one], [one]), {values}))"
    return f"$__conditionalAll({column or variable} IN (SELECT arrayJoin({held})), ${variable})"


def all_are_chosen(variable: str) -> str:
    """A condition: all values of a variable are chosen."""
    return f"$__conditionalAll(1 = 0, ${variable})"


def choice(column: str) -> str:
    """A value as it is chosen."""
    return f"if({column} = '', '{NONE}', {column})"


def name(of: str, over: str = "") -> str:
    """What people call a team, a key, a user: the latest alias, else the id, of a key its beginning.

    Of all rows of a group, or of all that have the same `over`.
    """
    alias = f"{of}_alias"
    latest = f"argMaxIf({alias}, hour, {alias} != '')" + (f" OVER (PARTITION BY {over})" if over else "")
    return f"coalesce(nullIf({latest}, ''), nullIf({short(of)}, ''), '{NONE}')"


def short(of: str) -> str:
    """The id, of a key as much of its hash as a person compares."""
    return f"substring({of}, 1, 12)" if of == "key" else of


def where(*conditions: str) -> str:
    """The lines of a WHERE."""
    return "WHERE " + "\n    AND ".join(conditions)
