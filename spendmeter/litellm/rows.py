"""Turns rows of LiteLLM's management API into objects with budgets. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from spendmeter.litellm.api import LitellmApi, NotAnswered, Row
from spendmeter.litellm.entities import (
    Kind,
    LitellmEntity,
    from_metadata,
    is_limit_of_all,
    key_seen,
    limits_of,
    mapping,
    tabled_seen,
    user_seen,
)


class Owned(NamedTuple):
    """An object of LiteLLM's, and where LiteLLM keeps its limit."""

    seen: LitellmEntity
    spent_usd: object = None
    """Its spend since the last reset, according to LiteLLM; None if unknown."""
    budget_id: str | None = None
    """The row of LiteLLM's budget table with its limit, if it is there."""
    metadata: Mapping[str, Any] | None = None
    """The metadata for a mark; None for kinds without metadata."""
    left_because: str | None = None
    """Why its limit would mean something else here, and so stays LiteLLM's."""


def key_of(row: Row, budgets: Mapping[str, Row], timezone: str) -> Owned:
    """A virtual key. Its soft budget is in the budget table."""
    seen = key_seen(row, str(row["token"]), timezone, is_raised=False)
    soft_budget = row.get("soft_budget") or _table(row, budgets).get("soft_budget")
    return Owned(
        seen._replace(soft_budget=soft_budget), row.get("spend"), metadata=mapping(row.get("metadata"))
    )


def team_of(row: Row, timezone: str) -> Owned:
    """A team."""
    metadata = mapping(row.get("metadata"))
    alias = row.get("team_alias") or ""
    found = {**limits_of(row), **from_metadata(metadata), "timezone": timezone, "alias": alias}
    return Owned(LitellmEntity("team", (str(row["team_id"]),), **found), row.get("spend"), metadata=metadata)


def user_of(row: Row, timezone: str, *, users_pay_for_teams: bool) -> Owned:
    """A user; for `users_pay_for_teams` see `is_limit_of_all`."""
    seen = user_seen(row, str(row["user_id"]), timezone, users_pay_for_teams=users_pay_for_teams)
    if not is_limit_of_all(row, users_pay_for_teams=users_pay_for_teams):
        why = "in LiteLLM it leaves out what the user spends through teams, here it would not"
        has_limit = row.get("max_budget") is not None
        return Owned(seen, row.get("spend"), left_because=why if has_limit else None)
    return Owned(seen, row.get("spend"), metadata=mapping(row.get("metadata")))


def tabled(kind: Kind, names: tuple[str, ...], row: Row, budgets: Mapping[str, Row], timezone: str) -> Owned:
    """A member, customer, tag, organization or project: its limit is in the budget table."""
    table = _table(row, budgets)
    budget_id = row.get("budget_id") or table.get("budget_id")
    return Owned(tabled_seen(kind, names, table, timezone), row.get("spend"), budget_id=budget_id)


def _table(row: Row, budgets: Mapping[str, Row]) -> Mapping[str, Any]:
    return mapping(row.get("litellm_budget_table")) or budgets.get(row.get("budget_id") or "", {})


def read_litellm(api: LitellmApi, timezone: str) -> tuple[list[Owned], list[str]]:
    """Every object, and a text for each kind that could not be read.

    Raises:
        NotAnswered: keys or teams cannot be read: this is not such a proxy, or the key is not its master key.
    """
    unread: list[str] = []
    budgets = api.budgets()
    found = [key_of(row, budgets, timezone) for row in api.virtual_keys()]
    teams = list(api.teams())
    found += [team_of(row, timezone) for row in teams]
    for team in teams:
        members = api.members(team["team_id"])
        found += _each("member", members, ("team_id", "user_id"), budgets, timezone)
    pays = _users_pay_for_teams(api, unread)
    users = _or_none(api.users, "users", unread)
    found += [user_of(row, timezone, users_pay_for_teams=pays) for row in users]
    for kind, read, name in (
        ("end_user", api.customers, "user_id"),
        ("tag", api.tags, "name"),
        ("organization", api.organizations, "organization_id"),
        ("project", api.projects, "project_id"),
    ):
        found += _each(kind, _or_none(read, f"{kind}s", unread), (name,), budgets, timezone)  # type: ignore[arg-type]
    return found, unread


def _users_pay_for_teams(api: LitellmApi, unread: list[str]) -> bool:
    """Whether LiteLLM says so; if it does not, the limits of users in teams stay its own."""
    try:
        return api.general_settings().get("apply_user_budget_to_team_keys") is True
    except NotAnswered as error:
        unread.append(f"general settings: {error}")
        return False


def _each(
    kind: Kind, rows: Iterable[Row], names: tuple[str, ...], budgets: dict[str, Row], timezone: str
) -> list[Owned]:
    return [
        tabled(kind, tuple(str(row[name]) for name in names), row, budgets, timezone)
        for row in rows
        if all(row.get(name) for name in names)
    ]


def _or_none(read: Callable[[], Iterable[Row]], what: str, unread: list[str]) -> list[Row]:
    try:
        return list(read())
    except NotAnswered as error:
        unread.append(f"{what.replace('_', ' ')}: {error}")
        return []
