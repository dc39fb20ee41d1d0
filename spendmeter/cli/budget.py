"""`spendmeter budget`: set, raise, reset, look at and remove budgets."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from spendmeter.budget_file import InvalidBudgetFile, read_budgets
from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.money_option import Usd
from spendmeter.cli.printing import clock, print_json, print_table, table, usd
from spendmeter.cli.stack import dir_option, json_option
from spendmeter.client import SpendmeterClient, connect, different
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.window import window_of

INVALID_FILE = 2


class Applied(NamedTuple):
    """What applying a file does to the budgets in force."""

    created: list[Budget]
    changed: list[Budget]
    unchanged: list[Budget]


@click.group()
def budget() -> None:
    """Say what may be spent: by whom, in which time."""


@budget.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@dir_option
@json_option
def apply(file: str, dry_run: bool, dir_: Path | None, as_json: bool) -> None:
    """Put the budgets of a YAML FILE in force: all of them, or none if anything is wrong."""
    with click.open_file(file, encoding="utf-8") as opened:
        written = opened.read()
    try:
        budgets = read_budgets(written, file, datetime.now(UTC))
    except InvalidBudgetFile as error:
        click.echo(f"{error}\nnothing was applied", err=True)
        raise SystemExit(INVALID_FILE) from None
    settings = kafka_settings(dir_)

    async def work() -> Applied:
        async with connect(settings) as client:
            return await _apply(client, budgets, dry_run=dry_run)

    applied = run(work, settings)
    if as_json:
        return print_json({"dry_run": dry_run} | {n: [b.id for b in p] for n, p in applied._asdict().items()})
    for mark, part in zip(("+ new", "~ changed", "= the same"), applied, strict=True):
        for one in part:
            click.echo(f"{mark:<10}  {one.id}  {_in_words(one)}")
    return click.echo("nothing was applied: this is a dry run") if dry_run else None


async def _apply(client: SpendmeterClient, budgets: Sequence[Budget], *, dry_run: bool) -> Applied:
    existing = await client.budgets()
    changes = different(existing, budgets) if dry_run else await client.apply(budgets)
    changed = {one.id for one in changes}
    return Applied(
        [one for one in changes if one.id not in existing],
        [one for one in changes if one.id in existing],
        [one for one in budgets if one.id not in changed],
    )


@budget.command(name="list")
@dir_option
@json_option
def list_(dir_: Path | None, as_json: bool) -> None:
    """Every budget in force."""
    settings = kafka_settings(dir_)

    async def work() -> dict[str, Budget]:
        async with connect(settings) as client:
            return await client.budgets()

    budgets = [found for _, found in sorted(run(work, settings).items())]
    if as_json:
        return print_json([_as_data(one) for one in budgets])
    if not budgets:
        return click.echo("no budgets yet; `spendmeter budget apply FILE.yaml` sets some")
    columns = ("budget", "match", "limit", "period", "action", "warn at", "changed", "by")
    rows = [
        (
            one.id,
            _match_in_words(one),
            usd(one.limit_nanousd),
            one.period,
            one.action,
            ", ".join(f"{fraction:.0%}" for fraction in one.warn_at) or "-",
            clock(one.updated_at),
            one.updated_by,
        )
        for one in budgets
    ]
    return print_table(table(columns, rows, right=("limit",)))


@budget.command()
@click.argument("budget_id", metavar="ID")
@dir_option
@json_option
def show(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """One budget, and what each of its accounts has spent in the present window."""
    settings = kafka_settings(dir_)

    async def work() -> tuple[Budget, list[Signal]]:
        async with connect(settings) as client:
            return await client.get(budget_id), await client.signals(budget_id)

    found, signals = run(work, settings)
    current = _current(found, signals, datetime.now(UTC))
    if as_json:
        return print_json({"budget": _as_data(found), "accounts": [_account_as_data(s) for s in current]})
    click.echo(f"{found.id}  {_in_words(found)}")
    if not current:
        return click.echo("nothing has been spent in the present window")
    columns = ("account", "spent", "limit", "used", "state", "window ends (UTC)")
    rows = [
        (
            ", ".join(f"{dimension}={value}" for dimension, value in s.subject.items()) or "everything",
            usd(s.spent_nanousd),
            usd(s.limit_nanousd),
            f"{s.spent_nanousd / s.limit_nanousd:.1%}",
            s.state,
            clock(s.window_end) if s.window_end else "never",
        )
        for s in current
    ]
    return print_table(table(columns, rows, right=("spent", "limit", "used")))


@budget.command(name="set")
@click.argument("budget_id", metavar="ID")
@click.option("--limit-usd", type=Usd(), required=True, help="The new limit; what was spent stays spent.")
@dir_option
@json_option
def set_(budget_id: str, limit_usd: NanoUsd, dir_: Path | None, as_json: bool) -> None:
    """Raise or lower a limit. In force at every gateway at once."""
    _change(dir_, lambda client: client.set_limit(budget_id, limit_usd), "is now", as_json)


@budget.command()
@click.argument("budget_id", metavar="ID")
@dir_option
@json_option
def reset(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """Begin a new window now: what was spent before no longer counts."""
    _change(dir_, lambda client: client.reset(budget_id), "begins anew:", as_json)


@budget.command()
@click.argument("budget_id", metavar="ID")
@dir_option
@json_option
def remove(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """Take a budget out of force."""
    _change(dir_, lambda client: client.remove(budget_id), "is removed; it was", as_json)


def _change(
    dir_: Path | None,
    change: Callable[[SpendmeterClient], Awaitable[Budget]],
    words: str,
    as_json: bool,
) -> None:
    settings = kafka_settings(dir_)

    async def work() -> Budget:
        async with connect(settings) as client:
            return await change(client)

    changed = run(work, settings)
    if as_json:
        print_json(_as_data(changed))
    else:
        click.echo(f"{changed.id} {words} {_in_words(changed)}")


def _current(found: Budget, signals: Sequence[Signal], now: datetime) -> list[Signal]:
    """The signals of the present window, the fullest account first."""
    window = window_of(found, now)
    current = [s for s in signals if window is not None and s.window_start == window.start]
    return sorted(current, key=lambda s: (-s.spent_nanousd, s.account))


def _in_words(found: Budget) -> str:
    span = "in total" if found.period == "lifetime" else f"per {found.period}"
    return f"{usd(found.limit_nanousd)} {span} for {_match_in_words(found)} ({found.action})"


def _match_in_words(found: Budget) -> str:
    return (
        ", ".join(f"{dimension}={value}" for dimension, value in sorted(found.match.items())) or "everything"
    )


def _as_data(found: Budget) -> dict[str, Any]:
    return {**found.model_dump(mode="json"), "limit_usd": format_usd(found.limit_nanousd)}


def _account_as_data(signal: Signal) -> dict[str, Any]:
    return {
        **signal.model_dump(mode="json"),
        "limit_usd": format_usd(signal.limit_nanousd),
        "spent_usd": format_usd(signal.spent_nanousd),
        "remaining_usd": format_usd(NanoUsd(signal.limit_nanousd - signal.spent_nanousd)),
    }
