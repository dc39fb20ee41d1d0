"""The import: what all of LiteLLM's budgets make of ours, and of its own when they are taken over. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from spendmeter.budgets.plan import BudgetPlan, Change
from spendmeter.contract.budget import Budget
from spendmeter.litellm.budgets import adopted
from spendmeter.litellm.changes import ADOPTED_BY, changes
from spendmeter.litellm.entities import owner_of
from spendmeter.litellm.rows import Owned
from spendmeter.litellm.take_over import ManagementCall, giving_back, taking_over

IMPORTED_BY = "spendmeter import litellm"
Wish = Literal["budgets", "take over", "undo"]


class Item(NamedTuple):
    """One object with a budget: what is done here, and what in LiteLLM."""

    owned: Owned
    plan: BudgetPlan
    call: ManagementCall | None = None
    """What is asked of LiteLLM once our budgets are stored."""
    problems: tuple[str, ...] = ()
    """Why a budget of it is not taken; its limits then stay LiteLLM's."""

    @property
    def is_nothing(self) -> bool:
        """Whether all is as it should be."""
        return not (self.plan.created or self.plan.changed or self.plan.removed or self.call)


def import_of(
    found: Iterable[Owned], in_force: Mapping[str, Budget], wish: Wish, now: datetime
) -> list[Item]:
    """What is to be done for each object that has a budget, or had one here."""
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
    """All that is to be done here, as one plan."""
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
    """The plan in which no budget stands as adopted: LiteLLM will show no limit, which would take it away."""
    adopted_before = [budget for budget in plan.unchanged if budget.updated_by == ADOPTED_BY]
    kept = [Change(budget, budget.model_copy(update={"updated_by": ""})) for budget in adopted_before]
    rest = [budget for budget in plan.unchanged if budget not in adopted_before]
    return plan._replace(changed=[*plan.changed, *kept], unchanged=rest)
