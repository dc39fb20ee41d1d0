"""Everything that LiteLLM's management API says about budgets, and what it would not say."""

from collections.abc import Callable, Iterable

from spendmeter.litellm.api import LitellmApi, NotAnswered, Row
from spendmeter.litellm.entities import Kind
from spendmeter.litellm.rows import Owned, key_of, tabled, team_of, user_of


def read_litellm(api: LitellmApi, timezone: str) -> tuple[list[Owned], list[str]]:
    """Every object, and in words which kinds could not be read.

    Raises:
        NotAnswered: keys or teams cannot be read: it is no such proxy, or the key is not its master key.
    """
    untold: list[str] = []
    budgets = api.budgets()
    found = [key_of(row, budgets, timezone) for row in api.virtual_keys()]
    teams = list(api.teams())
    found += [team_of(row, timezone) for row in teams]
    for team in teams:
        members = api.members(team["team_id"])
        found += _each("member", members, ("team_id", "user_id"), budgets, timezone)
    pays = _users_pay_for_teams(api, untold)
    users = _or_none(api.users, "users", untold)
    found += [user_of(row, timezone, users_pay_for_teams=pays) for row in users]
    for kind, read, name in (
        ("end_user", api.customers, "user_id"),
        ("tag", api.tags, "name"),
        ("organization", api.organizations, "organization_id"),
        ("project", api.projects, "project_id"),
    ):
        found += _each(kind, _or_none(read, f"{kind}s", untold), (name,), budgets, timezone)  # type: ignore[arg-type]
    return found, untold


def _users_pay_for_teams(api: LitellmApi, untold: list[str]) -> bool:
    """Whether LiteLLM says so; where it does not, the limits of users in teams stay its own."""
    try:
        return api.general_settings().get("apply_user_budget_to_team_keys") is True
    except NotAnswered as error:
        untold.append(f"general settings: {error}")
        return False


def _each(
    kind: Kind, rows: Iterable[Row], names: tuple[str, ...], budgets: dict[str, Row], timezone: str
) -> list[Owned]:
    return [
        tabled(kind, tuple(str(row[name]) for name in names), row, budgets, timezone)
        for row in rows
        if all(row.get(name) for name in names)
    ]


def _or_none(read: Callable[[], Iterable[Row]], what: str, untold: list[str]) -> list[Row]:
    try:
        return list(read())
    except NotAnswered as error:
        untold.append(f"{what.replace('_', ' ')}: {error}")
        return []
