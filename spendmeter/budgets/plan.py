"""The plan: which budgets an apply creates, changes, removes and leaves, and what forbids it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Any, NamedTuple

from spendmeter.budgets.change import without_ended_raises
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.values.times import format_time

MADE_ELSEWHERE = ("key:*", "litellm:*")
"""Ids of budgets that the key API and LiteLLM own: no file has them, so no file prunes them."""
# Fields that people and services change while a budget runs: they stay unless the file names them.
_KEPT = ("reset_at", "raises", "paused")
_STAMPS = {"revision", "updated_at", "updated_by"}


class Change(NamedTuple):
    """A budget in force, and its new record."""

    before: Budget
    after: Budget


class Difference(NamedTuple):
    """One field of a change, in people's notation."""

    field: str
    old: str
    new: str


class BudgetPlan(NamedTuple):
    """What to do; every budget is in one of these."""

    created: list[Budget]
    changed: list[Change]
    removed: list[Budget]
    """Only when pruning."""
    unchanged: list[Budget]
    left: list[Budget]
    """In force, but not wanted: when pruning these are `removed`, unless they were made elsewhere."""

    @property
    def removes_most(self) -> bool:
        """Whether more than half of the budgets in force that files may prune would go."""
        kept = [budget for budget in self.left if not _is_made_elsewhere(budget.id)]
        stay = len(kept) + len(self.changed) + len(self.unchanged)
        return len(self.removed) > stay

    @property
    def writes(self) -> list[Budget]:
        """The records to write, without removals."""
        return [*self.created, *(change.after for change in self.changed)]


def plan(
    existing: Mapping[str, Budget], wanted: Sequence[Budget], now: datetime, *, prune: bool = False
) -> BudgetPlan:
    """The plan that brings the wanted budgets into force."""
    made = BudgetPlan([], [], [], [], [])
    for budget in wanted:
        known = existing.get(budget.id)
        if known is None:
            made.created.append(without_ended_raises(budget, now))
            continue
        after = without_ended_raises(_keeping(budget, known), now)
        if after.model_dump(exclude=_STAMPS) == without_ended_raises(known, now).model_dump(exclude=_STAMPS):
            made.unchanged.append(known)
        else:
            made.changed.append(Change(known, after))
    named = {budget.id for budget in wanted}
    for budget_id, known in sorted(existing.items()):
        if budget_id not in named:
            is_pruned = prune and not _is_made_elsewhere(budget_id)
            (made.removed if is_pruned else made.left).append(known)
    return made


def _is_made_elsewhere(budget_id: str) -> bool:
    return any(fnmatchcase(budget_id, made_by) for made_by in MADE_ELSEWHERE)


def _keeping(budget: Budget, known: Budget) -> Budget:
    kept = {
        field: getattr(known, field)
        for field in _KEPT
        if field not in budget.model_fields_set or getattr(budget, field) is None
    }
    return Budget.model_validate({**budget.model_dump(), **kept})


def differences(change: Change) -> list[Difference]:
    """The fields that change, in the order of the record."""
    old, new = _render_fields(change.before), _render_fields(change.after)
    return [Difference(field, old[field], new[field]) for field in old if old[field] != new[field]]


def _render_fields(budget: Budget) -> dict[str, str]:
    told: dict[str, Any] = budget.model_dump(mode="json", exclude=_STAMPS | {"id", "limit_nanousd"})
    told["match"] = ", ".join(f"{d}={v}" for d, v in sorted(budget.match.items())) or "everything"
    told["warn_at"] = ", ".join(f"{fraction:g}" for fraction in budget.warn_at) or "never"
    told["raises"] = (
        ", ".join(f"{format_usd(r.amount_nanousd)} until {format_time(r.until)}" for r in budget.raises)
        or "none"
    )
    told["paused"] = "yes" if budget.paused else "no"
    words = {field: "none" if value is None else str(value) for field, value in told.items()}
    return {"match": words.pop("match"), "limit_usd": format_usd(budget.limit_nanousd), **words}


def wrong_replaces(wanted: Iterable[Budget], in_force: Mapping[str, Budget]) -> dict[str, str]:
    """By id, problems with the budgets that the wanted ones replace; `in_force` are all that will exist."""
    found = {}
    ending: set[str] = set()
    for budget in wanted:
        if budget.replaces is None:
            continue
        if budget.replaces not in in_force:
            found[budget.id] = (
                f"replaces: there will be no budget {budget.replaces!r};"
                " name one that is in force or in the file"
            )
            continue
        circle = _circle(budget, in_force, ending)
        if circle:
            found[budget.id] = f"replaces goes round: {' → '.join(circle)}; leave replaces out of one of them"
    return found


def _circle(budget: Budget, in_force: Mapping[str, Budget], ending: set[str]) -> list[str]:
    """The circle from the budget through what it replaces back to it; empty if there is none.

    Args:
        ending: budgets whose chain is known to end; budgets on such a chain are added.
    """
    way = {budget.id: None}
    at = in_force.get(budget.replaces or "")
    while at is not None and at.id not in way and at.id not in ending:
        way[at.id] = None
        at = in_force.get(at.replaces or "")
    if at is not None and at.id == budget.id:
        return [*way, budget.id]
    # None of these leads back to itself; if the chain ends in a circle of others, these come before it.
    is_end = at is None or at.id in ending
    ending.update(way if is_end or at is None else takewhile(lambda budget_id: budget_id != at.id, way))
    return []
