"""`spendmeter import litellm`: the budgets of a running LiteLLM become ours, and its own can step aside."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import available_timezones

import click

from spendmeter.budget_plan import differences
from spendmeter.cli.budget_words import in_words
from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.printing import print_json, usd
from spendmeter.cli.stack import dir_option, json_option
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import InvalidAmount, from_float_usd
from spendmeter.litellm_api import LitellmApi, NotAnswered
from spendmeter.litellm_import import IMPORTED_BY, Item, Wish, import_of, whole_plan
from spendmeter.litellm_read import read_litellm
from spendmeter.litellm_rows import Owned

NOT_ALL_DONE = 1


@click.group(name="import")
def import_() -> None:
    """Budgets that another system has."""


@import_.command()
@click.option("--url", envvar="SPENDMETER_PROXY_URL", required=True, help="The LiteLLM proxy.")
@click.option("--api-key", envvar="SPENDMETER_MASTER_KEY", required=True, help="Its master key.")
@click.option(
    "--apply", "is_applied", is_flag=True, help="Do it; without, the plan is shown and nothing is done."
)
@click.option(
    "--take-over", is_flag=True, help="Move LiteLLM's own limits aside: only ours refuse from then on."
)
@click.option("--undo", is_flag=True, help="Put the limits that were moved aside back into LiteLLM.")
@click.option("--timezone", default="UTC", show_default=True, help="LiteLLM's `litellm_settings.timezone`.")
@dir_option
@json_option
def litellm(
    url: str,
    api_key: str,
    is_applied: bool,
    take_over: bool,
    undo: bool,
    timezone: str,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Take in the budgets of keys, teams, members, users, customers, tags, organizations and projects.

    A second run finds nothing left to do. What people changed here meanwhile (a reset, raises, a pause)
    stays; limits and windows are LiteLLM's.
    """
    if take_over and undo:
        raise click.UsageError("--take-over and --undo are opposites; give one")
    if timezone not in available_timezones():
        raise click.UsageError(f"--timezone {timezone!r} is not an IANA time zone such as Europe/Berlin")
    wish: Wish = "undo" if undo else "take over" if take_over else "budgets"
    api = LitellmApi(url, api_key)
    try:
        found, untold = read_litellm(api, timezone)
    except NotAnswered as error:
        raise click.ClickException(str(error)) from None
    items = _budgets(found, wish, dir_, is_applied=is_applied)
    failures = _ask(api, items) if is_applied else []
    if as_json:
        print_json(_as_data(items, untold, failures, is_applied=is_applied))
    else:
        _tell(items, untold, failures, is_applied=is_applied)
    if failures:
        raise SystemExit(NOT_ALL_DONE)


def _budgets(found: Sequence[Owned], wish: Wish, dir_: Path | None, *, is_applied: bool) -> list[Item]:
    settings = kafka_settings(dir_)

    async def work() -> list[Item]:
        async with connect(settings, by=IMPORTED_BY) as client:
            items = import_of(found, await client.budgets(), wish, datetime.now(UTC))
            if is_applied:
                await client.carry_out(whole_plan(items))
            return items

    return run(work, settings)


def _ask(api: LitellmApi, items: Sequence[Item]) -> list[str]:
    """Change LiteLLM where that is wanted; what it would not do, in words."""
    failures = []
    for item in items:
        if item.call is not None:
            try:
                api.post(*item.call)
            except NotAnswered as error:
                failures.append(f"{item.owned.seen.words}: {error}")
    return failures


def _tell(items: Sequence[Item], untold: Sequence[str], failures: Sequence[str], *, is_applied: bool) -> None:
    for item in items:
        spent = f"  LiteLLM has counted {_spent(item.owned)}" if item.owned.spent_usd else ""
        for one in item.plan.created:
            click.echo(f"+ new        {one.id}  {in_words(one)}{spent}")
        for change in item.plan.changed:
            click.echo(f"~ changed    {change.after.id}  {in_words(change.after)}{spent}")
            for field, old, new in differences(change):
                click.echo(f"             {field}: {old} → {new}")
        for one in item.plan.removed:
            click.echo(f"- removed    {one.id}  LiteLLM has no such limit any more")
        for one in item.plan.unchanged:
            click.echo(f"= the same   {one.id}  {in_words(one)}{spent}")
        if item.call is not None:
            click.echo(f"> LiteLLM    {item.owned.seen.words}: {_moved(item)}")
    for problem in (problem for item in items for problem in item.problems):
        click.echo(f"! left       {problem}")
    for what in untold:
        click.echo(f"? not read   {what}")
    for failure in failures:
        click.echo(f"! failed     {failure}", err=True)
    if not is_applied:
        click.echo("nothing was done: this is the plan; --apply carries it out")
    elif all(item.is_nothing for item in items):
        click.echo("nothing was left to do")


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


def _as_data(
    items: Sequence[Item], untold: Sequence[str], failures: Sequence[str], *, is_applied: bool
) -> dict[str, object]:
    plan = whole_plan(items)
    return {
        "applied": is_applied,
        "created": _ids(plan.created),
        "changed": [change.after.id for change in plan.changed],
        "removed": _ids(plan.removed),
        "unchanged": _ids(plan.unchanged),
        "litellm": [item.owned.seen.owner for item in items if item.call],
        "left": [problem for item in items for problem in item.problems],
        "not_read": list(untold),
        "failed": list(failures),
    }


def _ids(budgets: Sequence[Budget]) -> list[str]:
    return [one.id for one in budgets]
