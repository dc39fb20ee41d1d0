"""Rows of LiteLLM's management API as objects that have budgets. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from spendmeter.litellm.api import Row
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
    """An object of LiteLLM's, and where its limit stands there."""

    seen: LitellmEntity
    spent_usd: object = None
    """What LiteLLM says it has spent since its last reset; None where it does not say."""
    budget_id: str | None = None
    """The row of LiteLLM's budget table that holds its limit, where that does."""
    metadata: Mapping[str, Any] | None = None
    """What a mark can be left in; None for kinds that have none."""
    left_because: str | None = None
    """Why its limit means something else here, and stays LiteLLM's."""


def key_of(row: Row, budgets: Mapping[str, Row], timezone: str) -> Owned:
    """A virtual key. Its soft budget stands in the budget table."""
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
    """A user; `users_pay_for_teams` as `is_limit_of_all` has it."""
    seen = user_seen(row, str(row["user_id"]), timezone, users_pay_for_teams=users_pay_for_teams)
    if not is_limit_of_all(row, users_pay_for_teams=users_pay_for_teams):
        why = "in LiteLLM it leaves out what the user spends through teams, here it would not"
        has_limit = row.get("max_budget") is not None
        return Owned(seen, row.get("spend"), left_because=why if has_limit else None)
    return Owned(seen, row.get("spend"), metadata=mapping(row.get("metadata")))


def tabled(kind: Kind, names: tuple[str, ...], row: Row, budgets: Mapping[str, Row], timezone: str) -> Owned:
    """A member, customer, tag, organization or project: its limit stands in the budget table."""
    table = _table(row, budgets)
    budget_id = row.get("budget_id") or table.get("budget_id")
    return Owned(tabled_seen(kind, names, table, timezone), row.get("spend"), budget_id=budget_id)


def _table(row: Row, budgets: Mapping[str, Row]) -> Mapping[str, Any]:
    return mapping(row.get("litellm_budget_table")) or budgets.get(row.get("budget_id") or "", {})
