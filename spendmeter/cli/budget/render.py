"""Renders budgets: in a line for people, as data for programs."""

from collections.abc import Mapping
from typing import Any

import click

from spendmeter.cli.printing import clock, usd
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.history.names import Names, name_of

wide_option = click.option("--wide", is_flag=True, help="Show ids, whole, instead of names.")


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


def short_match(values: Mapping[Any, str], names: Names, *, is_wide: bool) -> str:
    """The match or subject in a column, by names; without one, of a key's hash the beginning. `is_wide`: by
    ids, whole.
    """
    shown = (f"{d}={value if is_wide else name_of(d, value, names)}" for d, value in sorted(values.items()))
    return ", ".join(shown) or "everything"


def as_data(found: Budget) -> dict[str, Any]:
    """The record, and its limit in USD."""
    return {**found.model_dump(mode="json"), "limit_usd": format_usd(found.limit_nanousd)}
