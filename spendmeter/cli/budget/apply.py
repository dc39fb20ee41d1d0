"""`spendmeter budget apply` and `schema`: budgets from a file, and the format of the file."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from spendmeter.budgets.file import BudgetFile, InvalidBudgetFile, budget_file_schema, read_budget_file
from spendmeter.budgets.plan import BudgetPlan, differences
from spendmeter.cli.budget.render import render_budget
from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.options import INVALID_FILE, dir_option, file_argument, json_option, read_file
from spendmeter.cli.printing import print_json, say, say_lines
from spendmeter.client import InvalidReplaces, connect
from spendmeter.contract.budget import Budget
from spendmeter.settings import Settings

MAX_NAMED = 10


@click.command()
@file_argument
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Remove the budgets in force that the file does not have.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask, even if --prune removes most budgets.")
@dir_option
@json_option
def apply(file: str, dry_run: bool, prune: bool, is_sure: bool, dir_: Path | None, as_json: bool) -> None:
    """Put the budgets of a YAML FILE in force: all of them, or none if anything is wrong.

    Resets, raises and pauses that people have set stay, unless the file names them.
    Budgets of the key API and of LiteLLM (key:…, litellm:…) are never pruned. Pruning more than half of
    the others needs a confirmation, on the terminal or as --yes.
    """
    written = read_file(file)
    try:
        wanted = read_budget_file(written, file, datetime.now(UTC))
        planned = _planned(wanted, settings := kafka_settings(dir_), prune=prune)
    except InvalidBudgetFile as error:
        say_lines(f"{error}\nnothing was applied", err=True)
        raise SystemExit(INVALID_FILE) from None
    if not dry_run:
        if planned.removes_most and not is_sure:
            _ask(planned, can_ask=not as_json and file != "-" and sys.stdin.isatty())
        _carry_out(planned, settings)
    if as_json:
        return print_json({"dry_run": dry_run, **_as_data(planned)})
    _render(planned, prune=prune)
    return say("nothing was applied: this is a dry run") if dry_run else None


def _planned(wanted: BudgetFile, settings: Settings, *, prune: bool) -> BudgetPlan:
    async def work() -> BudgetPlan:
        async with connect(settings) as client:
            return await client.plan(wanted.budgets, prune=prune)

    try:
        return run(work, settings)
    except InvalidReplaces as error:
        raise wanted.invalid(error.wrong, "replaces") from None


def _ask(planned: BudgetPlan, *, can_ask: bool) -> None:
    """Return if the removal of most budgets is confirmed."""
    ids = [one.id for one in planned.removed]
    named = ", ".join(ids[:MAX_NAMED]) + (
        f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
    )
    stay = len(planned.changed) + len(planned.unchanged)
    what = f"--prune removes {len(ids):,} of the {len(ids) + stay:,} budgets in force ({named})"
    if not can_ask:
        raise click.UsageError(
            f"{what}; nothing was applied. Give --yes if they shall go, or leave out --prune"
        )
    say(what, err=True)
    if not click.confirm("remove them?", err=True):
        raise click.ClickException("nothing was applied")


def _carry_out(planned: BudgetPlan, settings: Settings) -> None:
    async def work() -> None:
        async with connect(settings) as client:
            await client.carry_out(planned)

    run(
        work,
        settings,
        failed="Kafka did not acknowledge every change",
        then="some may be in force, and the same command again brings in the rest",
    )


@click.command()
def schema() -> None:
    """Print the JSON Schema of a budget file, for editors that check while one writes."""
    print_json(budget_file_schema())


def _render(planned: BudgetPlan, *, prune: bool) -> None:
    for one in planned.created:
        say(f"+ new        {one.id}  {render_budget(one)}")
    for change in planned.changed:
        say(f"~ changed    {change.after.id}  {render_budget(change.after)}")
        for field, old, new in differences(change):
            say(f"             {field}: {old} → {new}")
    for one in planned.removed:
        say(f"- removed    {one.id}  it was {render_budget(one)}")
    for one in planned.unchanged:
        say(f"= the same   {one.id}  {render_budget(one)}")
    if planned.left:
        why_left = "made by the key API or LiteLLM" if prune else "--prune removes what no file has"
        say(f"  left       {', '.join(_ids(planned.left))}  not in this file; {why_left}")


def _as_data(planned: BudgetPlan) -> dict[str, object]:
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
