"""Names for people and the ids that they stand for, as recorded with spend."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from spendmeter.runtime.clickhouse import Client

MAX_FOUND = 20
_VIEWS: Final[Mapping[str, str]] = {
    "key": "by_key_day",
    "user": "by_key_day",
    "team": "by_team_day",
    "organization": "by_day",
    "project": "by_day",
}
"""Dimension that has names: the smallest view with them."""
NAMED: Final[frozenset[str]] = frozenset(_VIEWS)


def ids_named(client: Client, dimension: str, text: str) -> dict[str, str]:
    """The ids that have this name, or are this text, each with its latest name; MAX_FOUND at most."""
    view, alias = _VIEWS[dimension], _alias(dimension)
    rows = client.query(
        f"SELECT `{dimension}`, argMaxIf({alias}, day, {alias} != '') AS latest FROM {view}"
        f" WHERE `{dimension}` = {{text:String}} OR {alias} = {{text:String}}"
        f" GROUP BY `{dimension}` ORDER BY max(day) DESC, `{dimension}` LIMIT {MAX_FOUND}",
        parameters={"text": text},
    ).result_rows
    return {str(id_): str(name) for id_, name in rows if id_}


def known_names(client: Client, dimension: str) -> list[str]:
    """The names that spent lately; ids where there is no name."""
    view, alias = _VIEWS[dimension], _alias(dimension)
    rows = client.query(
        f"SELECT if({alias} = '', `{dimension}`, {alias}) AS name FROM {view} WHERE `{dimension}` != ''"
        " GROUP BY name ORDER BY max(day) DESC, name LIMIT 1000"
    ).result_rows
    return [str(name) for (name,) in rows]


def names_of_ids(client: Client, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The latest name of each dimension and id; what has none is left out."""
    wanted: dict[str, set[str]] = {}
    for dimension, id_ in pairs:
        if dimension in NAMED:
            wanted.setdefault(dimension, set()).add(id_)
    return {
        (dimension, id_): name
        for dimension, ids in wanted.items()
        for id_, name in _latest(client, dimension, ids)
    }


def _latest(client: Client, dimension: str, ids: Collection[str]) -> list[tuple[str, str]]:
    alias = _alias(dimension)
    rows = client.query(
        f"SELECT `{dimension}`, argMaxIf({alias}, day, {alias} != '') AS latest FROM {_VIEWS[dimension]}"
        f" WHERE has({{ids:Array(String)}}, `{dimension}`) GROUP BY `{dimension}` HAVING latest != ''",
        parameters={"ids": sorted(ids)},
    ).result_rows
    return [(str(id_), str(name)) for id_, name in rows]


def _alias(dimension: str) -> str:
    return "if(user_alias = '', user_email, user_alias)" if dimension == "user" else f"{dimension}_alias"
