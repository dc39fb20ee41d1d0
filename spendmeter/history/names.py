"""Names for people and the ids that they stand for, as recorded with spend."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any, Final

from spendmeter.runtime.clickhouse import Client
from spendmeter.values.ids import short
from spendmeter.visible import one_line

NamedId = tuple[str, str]
"""A dimension and an id of it; EMAIL and a user's id, for that user's address."""
Names = Mapping[NamedId, str]
EMAIL: Final = "user_email"
NO_NAMES: Final[Names] = MappingProxyType({})
MAX_FOUND = 20
MAX_IDS_IN_A_QUERY = 500
"""Ids in one query: they are sent in its address."""
MAX_NAME_CHARS = 100
"""Of a name in a message."""
_VIEWS: Final[Mapping[str, str]] = {
    "key": "by_key_day",
    "user": "by_key_day",
    EMAIL: "by_key_day",
    "team": "by_team_day",
    "organization": "by_day",
    "project": "by_day",
}
"""What has names: the smallest view with them."""
NAME_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "key": ("key_alias",),
    "user": ("user_alias", EMAIL),
    "team": ("team_alias",),
    "organization": ("organization_alias",),
    "project": ("project_alias",),
}
"""Dimension: columns with a name for people, the best first."""
NAMED: Final[frozenset[str]] = frozenset(NAME_COLUMNS)
"""Dimensions whose values people call something else."""


def name_sql(dimension: str) -> str:
    """The name for people in a row of `usage` or of a view; empty text if it has none."""
    columns = (EMAIL,) if dimension == EMAIL else NAME_COLUMNS.get(dimension, ())
    return f"coalesce({', '.join(_if_any(one) for one in columns)}, '')" if columns else "''"


def _if_any(column: str) -> str:
    return f"nullIf({column}, '')"


def ids_named(client: Client, dimension: str, text: str) -> dict[str, str]:
    """The ids that have this name, or are this text, each with its latest name; MAX_FOUND at most."""
    view, alias = _VIEWS[dimension], name_sql(dimension)
    rows = client.query(
        f"SELECT `{dimension}`, argMaxIf({alias}, day, {alias} != '') AS latest FROM {view}"
        f" WHERE `{dimension}` = {{text:String}} OR {alias} = {{text:String}}"
        f" GROUP BY `{dimension}` ORDER BY max(day) DESC, `{dimension}` LIMIT {MAX_FOUND}",
        parameters={"text": text},
    ).result_rows
    return {str(id_): str(name) for id_, name in rows if id_}


def known_names(client: Client, dimension: str) -> list[str]:
    """The names that spent lately; ids where there is no name."""
    view, alias = _VIEWS[dimension], name_sql(dimension)
    rows = client.query(
        f"SELECT if({alias} = '', `{dimension}`, {alias}) AS name FROM {view} WHERE `{dimension}` != ''"
        " GROUP BY name ORDER BY max(day) DESC, name LIMIT 1000"
    ).result_rows
    return [str(name) for (name,) in rows]


def names_of_ids(client: Client, pairs: Iterable[NamedId], since: date | None = None) -> dict[NamedId, str]:
    """The latest name of each dimension and id, to the day; what has none is left out.

    `since`: only names that were recorded that day (UTC) or later.
    """
    wanted: dict[str, set[str]] = {}
    for dimension, id_ in pairs:
        if dimension in _VIEWS:
            wanted.setdefault(dimension, set()).add(id_)
    return {
        (dimension, id_): name
        for dimension, ids in wanted.items()
        for begin in range(0, len(ids), MAX_IDS_IN_A_QUERY)
        for id_, name in _latest(client, dimension, sorted(ids)[begin : begin + MAX_IDS_IN_A_QUERY], since)
    }


def names_of(client: Client, subject: Mapping[str, str], since: datetime) -> dict[str, str]:
    """The latest names of a subject's ids by dimension, to the event; what has none is left out.

    It reads every event since then: slower than `names_of_ids`.
    """
    named = {dimension: name_sql(dimension) for dimension in subject if dimension in NAMED}
    if not named:
        return {}
    columns = ", ".join(
        f"argMaxIf({name}, occurred_at, {name} != '' AND `{dimension}` = {{{dimension}:String}})"
        for dimension, name in named.items()
    )
    anyone = " OR ".join(f"`{dimension}` = {{{dimension}:String}}" for dimension in named)
    rows = client.query(
        f"SELECT {columns} FROM usage"
        f" WHERE occurred_at >= toDateTime64({{since:String}}, 6, 'UTC') AND ({anyone})",
        parameters={"since": f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}", **subject},
    ).result_rows
    return {dimension: name for dimension, name in zip(named, rows[0], strict=True) if name}


def ids_in(subject: Mapping[Any, str]) -> list[NamedId]:
    """The ids of a subject that may have a name."""
    found = [(dimension, id_) for dimension, id_ in subject.items() if dimension in NAMED]
    return [*found, (EMAIL, subject["user"])] if "user" in subject else found


def name_of(dimension: str, id_: str, names: Names) -> str:
    """What people call it, in one line; without a name the id, of a hash its beginning."""
    name = one_line(names.get((dimension, id_), ""))
    if not name:
        return short(id_)
    return name if len(name) <= MAX_NAME_CHARS else f"{name[: MAX_NAME_CHARS - 1]}…"


def _latest(
    client: Client, dimension: str, ids: Collection[str], since: date | None
) -> list[tuple[str, str]]:
    alias, column = name_sql(dimension), "user" if dimension == EMAIL else dimension
    lately, parameters = "", dict[str, Any](ids=[*ids])
    if since is not None:
        lately, parameters["since"] = " AND day >= {since:Date}", since
    rows = client.query(
        f"SELECT `{column}`, argMaxIf({alias}, day, {alias} != '') AS latest FROM {_VIEWS[dimension]}"
        f" WHERE has({{ids:Array(String)}}, `{column}`){lately} GROUP BY `{column}` HAVING latest != ''",
        parameters=parameters,
    ).result_rows
    return [(str(id_), str(name)) for id_, name in rows]
