"""`spendmeter`: every command of the product under one name."""

import click

from spendmeter.cli.budget import budget
from spendmeter.cli.key import key
from spendmeter.cli.stack import down, fetch, status, up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spendmeter")
def main() -> None:
    """Meter what every LLM request costs, and stop spending at the budget."""


for command in (fetch, up, down, status, budget, key):
    main.add_command(command)
