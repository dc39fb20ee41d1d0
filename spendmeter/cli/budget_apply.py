"""`spendmeter budget apply` and `schema`: budgets as a file says them, and what it may say."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from spendmeter.budget_file import BudgetFile, InvalidBudgetFile, read_budget_file
from spendmeter.budget_plan import Plan, differences
from spendmeter.budget_schema import budget_file_schema
from spendmeter.cli.budget_words import in_words
from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.printing import print_json
from spendmeter.cli.stack import dir_option, json_option
from spendmeter.client import InvalidReplaces, connect
from spendmeter.contract.budget import Budget

INVALID_FILE = 2


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Remove the budgets in force that the file does not have.")
@dir_option
@json_option
def apply(file: str, dry_run: bool, prune: bool, dir_: Path | None, as_json: bool) -> None:
    """Put the budgets of a YAML FILE in force: all of them, or none if anything is wrong.

    What people change meanwhile (a reset, raises, a pause) stays as it is, unless the file names it.
    Budgets of the key API and of LiteLLM (key:…, litellm:…) are never pruned.
    """
    with click.open_file(file, encoding="utf-8") as opened:
        written = opened.read()
    try:
        wanted = read_budget_file(written, file, datetime.now(UTC))
        planned = _apply(wanted, dir_, dry_run=dry_run, prune=prune)
    except InvalidBudgetFile as error:
        click.echo(f"{error}\nnothing was applied", err=True)
        raise SystemExit(INVALID_FILE) from None
    if as_json:
        return print_json({"dry_run": dry_run, **_as_data(planned)})
    _tell(planned, prune=prune)
    return click.echo("nothing was applied: this is a dry run") if dry_run else None


def _apply(wanted: BudgetFile, dir_: Path | None, *, dry_run: bool, prune: bool) -> Plan:
    settings = kafka_settings(dir_)

    async def work() -> Plan:
        async with connect(settings) as client:
            planned = await client.plan(wanted.budgets, prune=prune)
            if not dry_run:
                await client.carry_out(planned)
            return planned

    try:
        return run(work, settings)
    except InvalidReplaces as error:
        raise wanted.invalid(error.wrong, "replaces") from None


@click.command()
def schema() -> None:
    """Print the JSON Schema of a budget file, for editors that check while one writes."""
    print_json(budget_file_schema())


def _tell(planned: Plan, *, prune: bool) -> None:
    for one in planned.created:
        click.echo(f"+ new        {one.id}  {in_words(one)}")
    for change in planned.changed:
        click.echo(f"~ changed    {change.after.id}  {in_words(change.after)}")
        for field, old, new in differences(change):
            click.echo(f"             {field}: {old} → {new}")
    for one in planned.removed:
        click.echo(f"- removed    {one.id}  it was {in_words(one)}")
    for one in planned.unchanged:
        click.echo(f"= the same   {one.id}  {in_words(one)}")
    if planned.left:
        not_asked = "made by the key API or LiteLLM" if prune else "--prune removes what no file has"
        click.echo(f"  left       {', '.join(_ids(planned.left))}  not in this file; {not_asked}")


def _as_data(planned: Plan) -> dict[str, object]:
    return {
        "created": _ids(planned.created),
        "changed": [change.after.id for change in planned.changed],
        "removed": _ids(planned.removed),
        "unchanged": _ids(planned.unchanged),
        "left": _ids(planned.left),
        "differences": {
            change.after.id: {d.field: {"old": d.old, "new": d.new} for d in differences(change)}
            for change in planned.changed
        },
    }


def _ids(budgets: Sequence[Budget]) -> list[str]:
    return [one.id for one in budgets]
