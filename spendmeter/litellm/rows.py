"""Rows of LiteLLM's management API as objects that have budgets. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from spendmeter.litellm.api import Row
from spendmeter.litellm.entities import LIMITS, Kind, Seen, from_metadata
from spendmeter.litellm.values import mapping


class Owned(NamedTuple):
    """An object of LiteLLM's, and where its limit stands there."""

    seen: Seen
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
    metadata = mapping(row.get("metadata"))
    table = mapping(row.get("litellm_budget_table")) or budgets.get(row.get("budget_id") or "", {})
    seen = Seen(
        "key",
        (str(row["token"]),),
        **{**_limits(row), "soft_budget": row.get("soft_budget") or table.get("soft_budget")},
        **from_metadata(metadata),
        temp_budget_increase=metadata.get("temp_budget_increase"),
        temp_budget_expiry=metadata.get("temp_budget_expiry"),
        timezone=timezone,
        alias=row.get("key_alias") or "",
    )
    return Owned(seen, row.get("spend"), metadata=metadata)


def team_of(row: Row, timezone: str) -> Owned:
    """A team."""
    metadata = mapping(row.get("metadata"))
    alias = row.get("team_alias") or ""
    found = {**_limits(row), **from_metadata(metadata), "timezone": timezone, "alias": alias}
    return Owned(Seen("team", (str(row["team_id"]),), **found), row.get("spend"), metadata=metadata)


def user_of(row: Row, timezone: str) -> Owned:
    """A user, whose limit LiteLLM does not apply to what is spent through teams."""
    metadata = mapping(row.get("metadata"))
    names = (str(row["user_id"]),)
    if row.get("teams"):
        why = "in LiteLLM it leaves out what the user spends through teams, here it would not"
        has_limit = row.get("max_budget") is not None
        return Owned(Seen("user", names), row.get("spend"), left_because=why if has_limit else None)
    taken_over = from_metadata(metadata)["taken_over"]
    seen = Seen("user", names, **_limits(row), taken_over=taken_over, timezone=timezone)
    return Owned(seen, row.get("spend"), metadata=metadata)


def tabled(kind: Kind, names: tuple[str, ...], row: Row, budgets: Mapping[str, Row], timezone: str) -> Owned:
    """A member, customer, tag, organization or project: its limit stands in the budget table."""
    table = mapping(row.get("litellm_budget_table")) or budgets.get(row.get("budget_id") or "", {})
    seen = Seen(
        kind,
        names,
        **_limits(table),
        temp_budget_increase=table.get("temp_budget_increase"),
        temp_budget_expiry=table.get("temp_budget_expiry"),
        timezone=timezone,
    )
    budget_id = row.get("budget_id") or table.get("budget_id")
    return Owned(seen, row.get("spend"), budget_id=budget_id)


def _limits(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in LIMITS}
