"""`spendmeter budget`: put budgets in force, show, change and remove them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from spendmeter.cli.budget.apply import apply, schema
from spendmeter.cli.budget.changes import create, pause, raise_, remove, reset, resume, set_
from spendmeter.cli.budget.render import as_data, render_budget, short_match, wide_option
from spendmeter.cli.connection import kafka_settings, name_lookup, run
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import STATES, clock, print_json, print_table, say, usd
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.signing import shown
from spendmeter.domain.window import window_of
from spendmeter.history.names import Names, ids_in


@click.group()
def budget() -> None:
    """Say what may be spent: by whom, in which time."""


for command in (apply, create, schema, set_, raise_, pause, resume, reset, remove):
    budget.add_command(command)


@budget.command(name="list")
@wide_option
@dir_option
@json_option
def list_(wide: bool, dir_: Path | None, as_json: bool) -> None:
    """Every budget in force."""
    settings = kafka_settings(dir_)

    lookup = name_lookup(dir_, wide=wide or as_json)

    async def work() -> tuple[dict[str, Budget], Mapping[str, str], Names]:
        async with connect(settings) as client:
            found, signers = await client.budgets(), await client.signers()
        ids = [id_ for one in found.values() for id_ in ids_in(one.match) if "*" not in id_[1]]
        return found, signers, await lookup.names_of(ids)

    found, signers, names = run(work, settings)
    budgets = [one for _, one in sorted(found.items())]
    if as_json:
        return print_json([as_data(one) | {"signed_by": signers.get(one.id, "")} for one in budgets])
    if not budgets:
        return say("no budgets yet; `spendmeter budget apply FILE.yaml` sets some")
    columns = ("budget", "match", "limit", "period", "action", "warn at", "changed", "by")
    rows = [
        (
            one.id,
            short_match(one.match, names, is_wide=wide),
            usd(one.limit_nanousd),
            one.period,
            f"{one.action}, paused" if one.paused else one.action,
            ", ".join(f"{fraction:.0%}" for fraction in one.warn_at) or "-",
            clock(one.updated_at),
            shown(one.updated_by, is_signed=one.id in signers),
        )
        for one in budgets
    ]
    return print_table(
        columns, rows, right=("limit",), whole=("budget", "period"), spare=("by", "changed", "warn at")
    )


@budget.command()
@click.argument("budget_id", metavar="ID")
@wide_option
@dir_option
@json_option
def show(budget_id: str, wide: bool, dir_: Path | None, as_json: bool) -> None:
    """One budget, and what each of its accounts has spent in the present window."""
    settings = kafka_settings(dir_)

    lookup = name_lookup(dir_, wide=wide or as_json)

    async def work() -> tuple[Budget, list[Signal], Names]:
        async with connect(settings) as client:
            found, signals = await client.get(budget_id), await client.signals(budget_id)
        ids = [id_ for one in signals for id_ in ids_in(one.subject)]
        return found, signals, await lookup.names_of(ids)

    found, signals, names = run(work, settings)
    now = datetime.now(UTC)
    current = _current(found, signals, now)
    if as_json:
        return print_json({"budget": as_data(found), "accounts": [_account_as_data(s) for s in current]})
    say(f"{found.id}  {render_budget(found)}")
    if not current:
        return say("nothing has been spent in the present window")
    columns = ("account", "spent", "limit", "used", "state", "spent by (UTC)", "window ends (UTC)")
    rows = [
        (
            short_match(s.subject, names, is_wide=wide),
            usd(s.spent_nanousd),
            usd(s.limit_nanousd),
            f"{s.spent_nanousd / s.limit_nanousd:.1%}",
            f"{s.state}, opening" if s.opening else s.state,
            _forecast(s, now),
            clock(s.window_end) if s.window_end else "never",
        )
        for s in current
    ]
    print_table(
        columns,
        rows,
        right=("spent", "limit", "used"),
        whole=("state",),
        spare=("window ends (UTC)", "spent by (UTC)"),
        colours={"state": STATES},
    )
    if any(s.opening for s in current):
        say("opening: what was spent before the budget is not included yet; it is being read from history")
    return None


def _current(found: Budget, signals: Sequence[Signal], now: datetime) -> list[Signal]:
    """The signals of the present window, the fullest account first."""
    window = window_of(found, now)
    current = [s for s in signals if window is not None and s.window_start == window.start]
    return sorted(current, key=lambda s: (-s.spent_nanousd, s.account))


def _forecast(signal: Signal, now: datetime) -> str:
    """When the limit will have been spent; a past moment belongs to an account that fell silent."""
    at = signal.forecast_exhausted_at
    return clock(at) if at is not None and at > now else "-"


def _account_as_data(signal: Signal) -> dict[str, Any]:
    return {
        **signal.model_dump(mode="json"),
        "limit_usd": format_usd(signal.limit_nanousd),
        "spent_usd": format_usd(signal.spent_nanousd),
        "remaining_usd": format_usd(NanoUsd(signal.limit_nanousd - signal.spent_nanousd)),
    }
