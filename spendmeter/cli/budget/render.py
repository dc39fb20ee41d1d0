"""Renders budgets: in a line for people, as data for programs."""

from collections.abc import Mapping
from typing import Any

import click

from spendmeter.cli.printing import clock, usd
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.values.ids import short

wide_option = click.option("--wide", is_flag=True, help="Show ids whole.")


def render_budget(found: Budget) -> str:
    """The limit, the match, and the action."""
    span = "in total" if found.period == "lifetime" else f"per {found.period}"
    return f"{usd(found.limit_nanousd)} {span} for {render_match(found)} ({_action(found)})"


def _action(found: Budget) -> str:
    ends = ", ".join(f"{usd(r.amount_nanousd)} more until {clock(r.until)}" for r in found.raises)
    return f"{found.action}{', paused' if found.paused else ''}{', ' + ends if ends else ''}"


def render_match(found: Budget) -> str:
    """`key=*, team=red`."""
    return (
        ", ".join(f"{dimension}={value}" for dimension, value in sorted(found.match.items())) or "everything"
    )


def short_match(values: Mapping[Any, str], *, is_wide: bool) -> str:
    """The match or subject in a column; of a key's hash the beginning, unless `is_wide`."""
    shown = (f"{name}={value if is_wide else short(value)}" for name, value in sorted(values.items()))
    return ", ".join(shown) or "everything"


def as_data(found: Budget) -> dict[str, Any]:
    """The record, and its limit in USD."""
    return {**found.model_dump(mode="json"), "limit_usd": format_usd(found.limit_nanousd)}
