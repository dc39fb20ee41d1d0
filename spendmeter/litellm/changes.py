"""What becomes of the budgets in force when LiteLLM has shown an object. Pure."""

from collections.abc import Iterable
from datetime import datetime

from spendmeter.budgets.plan import BudgetPlan, plan
from spendmeter.contract.budget import Budget
from spendmeter.litellm.budgets import Adopted, part_of

ADOPTED_BY = "LiteLLM"
"""Who stands in history beside what was adopted."""
_KEPT_WITHOUT_A_MARK = ("member", "end_user", "tag")
"""Kinds without metadata: that a limit was moved aside shows only in who wrote ours."""


def changes(found: Adopted, in_force: Iterable[Budget], now: datetime) -> BudgetPlan:
    """What brings the object's budgets into force; `in_force` are those that it has now.

    A budget that LiteLLM no longer has goes, unless it can no longer be seen. What people did to it here
    meanwhile (a reset, a pause, a raise) stays; its limit and windows are LiteLLM's.
    """
    existing = {budget.id: budget for budget in in_force}
    made = plan(existing, found.budgets, now)
    removed = [budget for budget in made.left if _is_gone(found, budget)]
    return made._replace(removed=removed, left=[budget for budget in made.left if budget not in removed])


def is_nothing(made: BudgetPlan) -> bool:
    """Whether all is as it should be."""
    return not (made.created or made.changed or made.removed)


def _is_gone(found: Adopted, budget: Budget) -> bool:
    if part_of(budget.id, found.seen.owner) in found.unread:
        return False
    return found.seen.kind not in _KEPT_WITHOUT_A_MARK or budget.updated_by == ADOPTED_BY
