"""`spendmeter budget set`, `raise`, `pause`, `resume`, `reset`, `remove`: change a budget while it runs."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from pydantic import ValidationError

from spendmeter.budgets.change import InvalidChange
from spendmeter.cli.budget.accounts import PAIR, find_account, ids_option, one_each
from spendmeter.cli.budget.render import as_data, render_budget
from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.options import DurationOption, TimeOption, UsdOption, dir_option, json_option
from spendmeter.cli.printing import print_json, say
from spendmeter.client import SpendmeterClient, connect
from spendmeter.contract.budget import Action, Budget, Enforcement
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import render_validation_error
from spendmeter.values.dimensions import Dimension

id_argument = click.argument("budget_id", metavar="ID")


@click.command(name="set")
@id_argument
@click.option("--limit-usd", type=UsdOption(), help="The new limit; what was spent stays spent.")
@click.option("--period", help="The new period, such as week, week:sunday, month:15 or P14D.")
@click.option("--timezone", metavar="ZONE", help="Whose midnights bound the new period.")
@click.option(
    "--for",
    "named",
    type=PAIR,
    multiple=True,
    help="Only for this account, by name or id, such as key=laptop; may be given again.",
)
@ids_option
@dir_option
@json_option
def set_(
    budget_id: str,
    limit_usd: NanoUsd | None,
    period: str | None,
    timezone: str | None,
    named: tuple[tuple[Dimension, str], ...],
    are_ids: bool,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Raise or lower a limit, or change its period, at every gateway at once.

    With --for one account gets a limit of its own: a budget that replaces this one for it. The same command
    again changes that budget's limit; `spendmeter budget remove` ends the exception.
    """
    if (limit_usd is None) == (period is None):
        raise click.UsageError("give either --limit-usd or --period")
    if timezone is not None and period is None:
        raise click.UsageError("--timezone goes with --period")
    if named and limit_usd is None:
        raise click.UsageError("--for goes with --limit-usd")
    account = find_account(one_each(named, "--for"), are_ids=are_ids, dir_=dir_)

    async def change(client: SpendmeterClient) -> Budget:
        if limit_usd is not None and named:
            return await client.set_limit_for(budget_id, account.ids, limit_usd, account.name)
        if limit_usd is not None:
            return await client.set_limit(budget_id, limit_usd)
        return await client.set_period(budget_id, period or "", timezone)

    outcome = f"replaces {budget_id} for {account.name}:" if named else "is now"
    _change(dir_, change, outcome, as_json)


@click.command(name="raise")
@id_argument
@click.option("--usd", type=UsdOption(), required=True, help="How much more may be spent.")
@click.option("--until", type=TimeOption(), help="When the raise ends by itself.")
@click.option("--for", "span", type=DurationOption(), help="Or how long it lasts: 30m, 2h, 3d, 1w.")
@dir_option
@json_option
def raise_(
    budget_id: str,
    usd: NanoUsd,
    until: datetime | None,
    span: timedelta | None,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Add to a limit for a while; the raise ends by itself."""
    if (until is None) == (span is None):
        raise click.UsageError("say when the raise ends: either --until or --for")
    end = until or datetime.now(UTC) + (span or timedelta())
    _change(dir_, lambda client: client.raise_limit(budget_id, usd, end), "is raised:", as_json)


@click.command()
@id_argument
@dir_option
@json_option
def pause(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """Pause a budget: it refuses nothing, but still counts."""
    _change(dir_, lambda client: client.pause(budget_id), "is paused:", as_json)


@click.command()
@id_argument
@dir_option
@json_option
def resume(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """Enforce a paused budget again, including what was spent meanwhile."""
    _change(dir_, lambda client: client.resume(budget_id), "is in force again:", as_json)


@click.command()
@id_argument
@click.option("--at", type=TimeOption(), help="An earlier moment of the present period.  [default: now]")
@dir_option
@json_option
def reset(budget_id: str, at: datetime | None, dir_: Path | None, as_json: bool) -> None:
    """Begin a new window: what was spent before no longer counts."""
    _change(dir_, lambda client: client.reset(budget_id, at), "begins anew:", as_json)


@click.command()
@id_argument
@dir_option
@json_option
def remove(budget_id: str, dir_: Path | None, as_json: bool) -> None:
    """Remove a budget."""
    _change(dir_, lambda client: client.remove(budget_id), "is removed; it was", as_json)


@click.command()
@id_argument
@click.option("--limit-usd", type=UsdOption(), required=True, help="What may be spent in a period.")
@click.option("--period", required=True, help="hour, day, week:sunday, month:15, year, lifetime, P14D…")
@click.option(
    "--match",
    type=PAIR,
    multiple=True,
    help='Whose spend, by id: team=red, or "key=*" for an account per key; may be given again.',
)
@click.option("--for", "named", type=PAIR, multiple=True, help="The same, by name: team=Research.")
@ids_option
@click.option("--everything", is_flag=True, help="Instead: all spend, in one account.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="Whose midnights count.")
@click.option("--starts-at", type=TimeOption(), help="Nothing is counted before it.")
@click.option("--warn-at", type=float, multiple=True, metavar="SHARE", help="Of the limit.  [default: 0.8]")
@click.option("--action", type=click.Choice([str(one) for one in Action]), default="block", show_default=True)
@click.option(
    "--enforcement",
    type=click.Choice([str(one) for one in Enforcement]),
    default="settled",
    show_default=True,
)
@click.option(
    "--unpriced",
    default="allow",
    show_default=True,
    metavar="POLICY",
    help="allow, block or USD per request.",
)
@click.option("--replaces", metavar="ID", help="The budget that this one overrides for whom it matches.")
@dir_option
@json_option
def create(
    budget_id: str,
    limit_usd: NanoUsd,
    period: str,
    match: tuple[tuple[Dimension, str], ...],
    named: tuple[tuple[Dimension, str], ...],
    are_ids: bool,
    everything: bool,
    timezone: str,
    starts_at: datetime | None,
    warn_at: tuple[float, ...],
    action: str,
    enforcement: str,
    unpriced: str,
    replaces: str | None,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Put a new budget in force, without a file."""
    if everything == bool(match or named):
        raise click.UsageError("say whose spend it is: --match, --for, or --everything")
    pairs = one_each((*match, *named), "--match or --for")
    account = find_account(
        {dimension: pairs[dimension] for dimension, _ in named}, are_ids=are_ids, dir_=dir_
    )
    fields: dict[str, object] = {
        "id": budget_id,
        "match": pairs | account.ids,
        "limit_nanousd": limit_usd,
        "period": period,
        "timezone": timezone,
        "starts_at": starts_at,
        "action": Action(action),
        "enforcement": Enforcement(enforcement),
        "unpriced": unpriced,
        "replaces": replaces,
        "updated_at": datetime.now(UTC),
    }
    if warn_at:
        fields["warn_at"] = warn_at
    try:
        made = Budget.model_validate(fields)
    except ValidationError as error:
        raise click.UsageError(render_validation_error(error).removeprefix("value: ")) from None
    _change(dir_, lambda client: client.create(made), "is new:", as_json)


def _change(
    dir_: Path | None,
    change: Callable[[SpendmeterClient], Awaitable[Budget]],
    outcome: str,
    as_json: bool,
) -> None:
    settings = kafka_settings(dir_)

    async def work() -> Budget:
        async with connect(settings) as client:
            return await change(client)

    try:
        changed = run(work, settings)
    except InvalidChange as error:
        raise click.ClickException(str(error)) from None
    except ValidationError as error:
        raise click.ClickException(render_validation_error(error)) from None
    if as_json:
        print_json(as_data(changed))
    else:
        say(f"{changed.id} {outcome} {render_budget(changed)}")
