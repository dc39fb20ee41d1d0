"""Taking over: LiteLLM's own limits moved aside, so that its counters can refuse nothing, and put back. Pure.

Where an object has metadata, its limits are kept there; where not, in our budget of it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.litellm.changes import ADOPTED_BY
from spendmeter.litellm.entities import TAKEN_OVER, mapping
from spendmeter.litellm.rows import Owned

# Not the soft budget: it refuses nothing.
_MOVED = ("max_budget", "budget_limits", "model_max_budget")
_UPDATES = {
    "key": ("/key/update", "key"),
    "team": ("/team/update", "team_id"),
    "user": ("/user/update", "user_id"),
}


class ManagementCall(NamedTuple):
    """One request to the management API."""

    path: str
    body: dict[str, Any]


def taking_over(owned: Owned) -> ManagementCall | None:
    """What moves the object's limits aside; None where it has none that could refuse."""
    seen = owned.seen
    limits = {name: value for name in _MOVED if (value := getattr(seen, name))}
    if not limits or owned.left_because:
        return None
    if owned.metadata is None:
        if "max_budget" not in limits or owned.budget_id is None:
            return None
        return ManagementCall("/budget/update", {"budget_id": owned.budget_id, "max_budget": None})
    kept = {**mapping(seen.taken_over), **limits}
    return _update(owned, dict.fromkeys(limits), {**owned.metadata, TAKEN_OVER: kept})


def giving_back(owned: Owned, ours: Budget | None) -> ManagementCall | None:
    """What puts them back; `ours` is our budget of the object. None where nothing was moved."""
    if owned.metadata is None:
        is_ours = ours is not None and ours.updated_by != ADOPTED_BY
        if owned.seen.max_budget is not None or owned.budget_id is None or ours is None or not is_ours:
            return None
        limit = float(format_usd(ours.limit_nanousd))
        return ManagementCall("/budget/update", {"budget_id": owned.budget_id, "max_budget": limit})
    kept = mapping(owned.seen.taken_over)
    limits = {name: value for name in _MOVED if (value := kept.get(name)) and not getattr(owned.seen, name)}
    if not kept:
        return None
    metadata = {name: value for name, value in owned.metadata.items() if name != TAKEN_OVER}
    if owned.seen.kind == "user" and not metadata:
        # /user/update takes empty metadata for none given, and would keep the mark.
        metadata = {TAKEN_OVER: {}}
    return _update(owned, limits, metadata)


def _update(owned: Owned, fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> ManagementCall:
    path, name = _UPDATES[owned.seen.kind]
    return ManagementCall(path, {name: owned.seen.names[0], **fields, "metadata": dict(metadata)})
