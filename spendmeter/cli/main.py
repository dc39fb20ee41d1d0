"""`spendmeter`: every command of the product under one name."""

from importlib.metadata import EntryPoint, entry_points

import click

from spendmeter.cli.alerts import alerts
from spendmeter.cli.budget import budget
from spendmeter.cli.correct import correct, void
from spendmeter.cli.demo import demo
from spendmeter.cli.import_litellm import import_
from spendmeter.cli.key import key
from spendmeter.cli.letters import letters
from spendmeter.cli.prices import prices
from spendmeter.cli.query import query
from spendmeter.cli.stack import down, fetch, status, up
from spendmeter.cli.top import top

PLUGGED_IN = "spendmeter.commands"
"""Entry points of this group are commands; so the packages that we must not import bring theirs."""


class Commands(click.Group):
    """Our commands, and those plugged in: a package is loaded when its command is called or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugged_in()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        ours = super().get_command(ctx, cmd_name)
        found = _plugged_in().get(cmd_name)
        if ours is not None or found is None:
            return ours
        command: click.Command = found.load()
        return command


def _plugged_in() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=PLUGGED_IN)}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spendmeter")
def main() -> None:
    """Meter what every LLM request costs, and stop spending at the budget."""


for command in (
    demo,
    fetch,
    up,
    down,
    status,
    budget,
    key,
    import_,
    query,
    top,
    alerts,
    correct,
    void,
    letters,
    prices,
):
    main.add_command(command)
