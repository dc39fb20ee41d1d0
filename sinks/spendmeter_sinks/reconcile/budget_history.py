"""Eras: since when a budget counts what it counts now, and what it counted before. Pure.

A total rests on the budget as it was when the events were folded. Where the budget changed in the
middle of a window, history recounted under the present budget says nothing about that total, so the
revisions of every budget decide which windows can be compared at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import Budget


class Revision(NamedTuple):
    """A record of spend.budgets, in their order; no budget where it was removed."""

    budget_id: str
    budget: Budget | None
    stored_at: datetime
    """By the clock of history, never before the broker had it: the budget's own clock may be off."""


@dataclass(slots=True)
class CountingPeriod:
    """The time in which a budget has counted what it counts now."""

    began: datetime
    """It was in force for every record that was appended after this."""
    shape: str
    """Empty once the budget was removed."""
    earlier: dict[str, Budget] = field(default_factory=dict)
    """What it was in earlier eras, one budget per shape."""


def shape_of(budget: Budget) -> str:
    """What decides which events count where and for how much; no other change alters a total."""
    shape = budget.model_dump_json(include={"match", "period", "timezone", "starts_at", "reset_at"})
    # What an unpriced request counts for decides amounts.
    return f"{shape} {budget.unpriced_flat_nanousd()}"


def counting_periods(revisions: Iterable[Revision]) -> dict[str, CountingPeriod]:
    """The present era of every budget that ever was."""
    periods: dict[str, CountingPeriod] = {}
    latest: dict[str, Budget] = {}
    for budget_id, budget, stored_at in revisions:
        shape = shape_of(budget) if budget else ""
        period = periods.get(budget_id)
        if period is None:
            periods[budget_id] = CountingPeriod(stored_at, shape)
        elif period.shape != shape:
            if budget_id in latest:
                # After a removal the same shape is an earlier one too: nothing was counted in between.
                period.earlier[shape_of(latest[budget_id])] = latest[budget_id]
            period.began, period.shape = max(period.began, stored_at), shape
        if budget is not None:
            latest[budget_id] = budget
    return periods


def replaced_until(revisions: Iterable[Revision]) -> dict[str, datetime]:
    """For each budget that another one ever replaced: when that last changed for any of its subjects."""
    known: dict[str, tuple[str, str] | None] = {}
    ever: dict[str, set[str]] = {}
    changed_at: dict[str, datetime] = {}
    for budget_id, budget, stored_at in revisions:
        now = (budget.replaces or "", budget.model_dump_json(include={"match"})) if budget else None
        if budget and budget.replaces:
            ever.setdefault(budget_id, set()).add(budget.replaces)
        if known.get(budget_id) != now:
            changed_at[budget_id] = max(stored_at, changed_at.get(budget_id, stored_at))
        known[budget_id] = now
    until: dict[str, datetime] = {}
    for replacing, replaced in ever.items():
        for budget_id in replaced:
            until[budget_id] = max(changed_at[replacing], until.get(budget_id, changed_at[replacing]))
    return until
