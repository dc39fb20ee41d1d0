"""What somebody wants to change, and what the budget is then: the rules of `spendmeter budget`. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import yaml

from spendmeter.budgets import change as budget_change
from spendmeter.budgets.change import InvalidChange
from spendmeter.budgets.file import read_budgets
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd


class ChangeKind(StrEnum):
    """What can be done to a budget in force."""

    RAISE = "raise"
    LIMIT = "limit"
    RESET = "reset"
    PAUSE = "pause"
    RESUME = "resume"
    REMOVE = "remove"


class WantedChange(NamedTuple):
    """One change, with what it needs."""

    kind: ChangeKind
    amount_nanousd: NanoUsd = NanoUsd(0)
    """How much more, of a raise; the new limit."""
    until: datetime | None = None
    """When a raise ends."""


def changed(budget: Budget, wanted: WantedChange, now: datetime) -> Budget | None:
    """The budget as it would be; None once it is removed.

    Raises:
        InvalidChange: it is not possible, or would change nothing.
        pydantic.ValidationError: such a budget is invalid.
    """
    match wanted.kind:
        case ChangeKind.RAISE:
            if wanted.until is None:
                raise InvalidChange("say when the raise ends")
            return budget_change.raised(budget, wanted.amount_nanousd, wanted.until, now)
        case ChangeKind.LIMIT:
            if wanted.amount_nanousd == budget.limit_nanousd:
                raise InvalidChange("this is the limit already; write another one")
            return budget_change.with_fields(budget, limit_nanousd=wanted.amount_nanousd)
        case ChangeKind.RESET:
            return budget_change.reset(budget, now, now)
        case ChangeKind.PAUSE | ChangeKind.RESUME:
            paused = wanted.kind is ChangeKind.PAUSE
            if budget.paused == paused:
                raise InvalidChange(f"{budget.id} is {'paused already' if paused else 'not paused'}")
            return budget_change.with_fields(budget, paused=paused)
        case ChangeKind.REMOVE:
            return None


def new_budget(fields: Mapping[str, object], now: datetime) -> Budget:
    """A budget from what a form holds, by the rules of a budget file.

    Args:
        fields: those of a file (docs/budgets.md), each as it was written.

    Raises:
        InvalidBudgetFile: it cannot be; the problems name their fields.
    """
    written = yaml.safe_dump({"budgets": [dict(fields)]}, allow_unicode=False)
    [budget] = read_budgets(written, "form", now)
    return budget
