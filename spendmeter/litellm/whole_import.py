"""The import: our budgets from all of LiteLLM's, and the changes in LiteLLM for a take-over. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from spendmeter.budgets.plan import BudgetPlan, Change
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.litellm.budgets import ADOPTED_BY, adopted, changes
from spendmeter.litellm.entities import TAKEN_OVER, mapping, owner_of
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
    """The request that moves the object's limits aside; None if it has none that could refuse."""
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
    """The request that restores them; `ours` is our budget of the object. None if nothing was moved."""
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
        # /user/update treats empty metadata as missing, and would keep the mark.
        metadata = {TAKEN_OVER: {}}
    return _update(owned, limits, metadata)


def _update(owned: Owned, fields: Mapping[str, Any], metadata: Mapping[str, Any]) -> ManagementCall:
    path, name = _UPDATES[owned.seen.kind]
    return ManagementCall(path, {name: owned.seen.names[0], **fields, "metadata": dict(metadata)})


IMPORTED_BY = "spendmeter import litellm"
Wish = Literal["budgets", "take over", "undo"]


class Item(NamedTuple):
    """One object with a budget: the changes here, and those in LiteLLM."""

    owned: Owned
    plan: BudgetPlan
    call: ManagementCall | None = None
    """The requests to LiteLLM once our budgets are stored."""
    problems: tuple[str, ...] = ()
    """Why a budget of it is not imported; its limits then stay LiteLLM's."""

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.plan.created or self.plan.changed or self.plan.removed or self.call)


def import_of(
    found: Iterable[Owned], in_force: Mapping[str, Budget], wish: Wish, now: datetime
) -> list[Item]:
    """What to do for each object that has a budget, or had one here."""
    by_owner: dict[str, list[Budget]] = {}
    for budget in in_force.values():
        owner = owner_of(budget.id)
        if owner is not None:
            by_owner.setdefault(owner, []).append(budget)
    items = []
    for owned in found:
        item = _item(owned, by_owner.get(owned.seen.owner, []), wish, now)
        has_any = item.plan.created or item.plan.changed or item.plan.unchanged or item.plan.removed
        if has_any or item.plan.left or item.problems or item.call:
            items.append(item)
    return items


def whole_plan(items: Iterable[Item]) -> BudgetPlan:
    """All changes here, as one plan."""
    plans = [item.plan for item in items]
    return BudgetPlan(
        created=[one for plan in plans for one in plan.created],
        changed=[one for plan in plans for one in plan.changed],
        removed=[one for plan in plans for one in plan.removed],
        unchanged=[one for plan in plans for one in plan.unchanged],
        left=[one for plan in plans for one in plan.left],
    )


def _item(owned: Owned, in_force: list[Budget], wish: Wish, now: datetime) -> Item:
    found = adopted(owned.seen, "both", now)
    left = (f"{owned.seen.description}: {owned.left_because}",) if owned.left_because else ()
    problems = (*found.problems, *left)
    ours = next((budget for budget in in_force if budget.id == owned.seen.owner), None)
    if wish == "undo":
        return Item(owned, BudgetPlan([], [], [], in_force, []), giving_back(owned, ours), left)
    plan = changes(found, in_force, now)
    call = taking_over(owned) if wish == "take over" and not problems else None
    if call is not None and owned.metadata is None:
        plan = _made_ours(plan)
    return Item(owned, plan, call, problems)


def _made_ours(plan: BudgetPlan) -> BudgetPlan:
    """The plan without adopted budgets: LiteLLM will show no limit any more, which would remove them."""
    adopted_before = [budget for budget in plan.unchanged if budget.updated_by == ADOPTED_BY]
    kept = [Change(budget, budget.model_copy(update={"updated_by": ""})) for budget in adopted_before]
    rest = [budget for budget in plan.unchanged if budget not in adopted_before]
    return plan._replace(changed=[*plan.changed, *kept], unchanged=rest)
