"""Renders the plan or the result of `spendmeter import litellm`: lines for people, data for programs."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from spendmeter.budgets.plan import differences
from spendmeter.cli.budget.render import render_budget
from spendmeter.cli.printing import say, usd
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import InvalidAmount, NanoUsd, format_usd, from_float_usd
from spendmeter.contract.usage import UsageEvent
from spendmeter.litellm.rows import Owned
from spendmeter.litellm.whole_import import Item, whole_plan


class ImportSummary(NamedTuple):
    """What an import did, or would do."""

    items: Sequence[Item]
    spent: Sequence[UsageEvent]
    unread: Sequence[str]
    """Kinds that could not be read, and why."""
    failures: Sequence[str]
    """What LiteLLM would not change, and why."""
    is_applied: bool


def render(summary: ImportSummary) -> None:
    """Print it in lines."""
    for item in summary.items:
        _render_item(item)
    for day, (cost, events) in _by_day(summary.spent):
        say(f"+ spent      {day}  {usd(cost)} of {events} keys and models")
    for problem in (problem for item in summary.items for problem in item.problems):
        say(f"! left       {problem}")
    for what in summary.unread:
        say(f"? not read   {what}")
    for failure in summary.failures:
        say(f"! failed     {failure}", err=True)
    if not summary.is_applied:
        say("nothing was done: this is the plan; --apply carries it out")
    elif not summary.spent and all(item.is_nothing for item in summary.items):
        say("nothing was left to do")


def _render_item(item: Item) -> None:
    spent = f"  LiteLLM has counted {_spent(item.owned)}" if item.owned.spent_usd else ""
    for one in item.plan.created:
        say(f"+ new        {one.id}  {render_budget(one)}{spent}")
    for change in item.plan.changed:
        say(f"~ changed    {change.after.id}  {render_budget(change.after)}{spent}")
        for field, old, new in differences(change):
            say(f"             {field}: {old} → {new}")
    for one in item.plan.removed:
        say(f"- removed    {one.id}  LiteLLM has no such limit any more")
    for one in item.plan.unchanged:
        say(f"= the same   {one.id}  {render_budget(one)}{spent}")
    if item.call is not None:
        say(f"> LiteLLM    {item.owned.seen.description}: {_moved(item)}")


def _moved(item: Item) -> str:
    assert item.call is not None
    fields = {
        name: value for name, value in item.call.body.items() if name.startswith(("max", "budget_l", "model"))
    }
    return ", ".join(f"{name} {value or 'moved aside'}" for name, value in fields.items())


def _spent(owned: Owned) -> str:
    try:
        return usd(from_float_usd(float(str(owned.spent_usd))))
    except (InvalidAmount, ValueError):
        return str(owned.spent_usd)


def as_data(summary: ImportSummary) -> dict[str, object]:
    """Ids, and what was left or failed."""
    plan = whole_plan(summary.items)
    return {
        "applied": summary.is_applied,
        "created": _ids(plan.created),
        "changed": [change.after.id for change in plan.changed],
        "removed": _ids(plan.removed),
        "unchanged": _ids(plan.unchanged),
        "litellm": [item.owned.seen.owner for item in summary.items if item.call],
        "spent_usd": {str(day): format_usd(cost) for day, (cost, _) in _by_day(summary.spent)},
        "left": [problem for item in summary.items for problem in item.problems],
        "not_read": list(summary.unread),
        "failed": list(summary.failures),
    }


def _by_day(spent: Sequence[UsageEvent]) -> list[tuple[date, tuple[NanoUsd, int]]]:
    costs: Counter[date] = Counter()
    counts: Counter[date] = Counter()
    for event in spent:
        day = event.occurred_at.date()
        costs[day] += event.cost_nanousd
        counts[day] += 1
    return [(day, (NanoUsd(costs[day]), counts[day])) for day in sorted(costs)]


def _ids(budgets: Sequence[Budget]) -> list[str]:
    return [one.id for one in budgets]
