"""`spendmeter`: every command of the product under one name."""

import click

from spendmeter.cli.alerts import alerts
from spendmeter.cli.budget import budget
from spendmeter.cli.demo import demo
from spendmeter.cli.key import key
from spendmeter.cli.query import query
from spendmeter.cli.stack import down, fetch, status, up
from spendmeter.cli.top import top


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spendmeter")
def main() -> None:
    """Meter what every LLM request costs, and stop spending at the budget."""


for command in (demo, fetch, up, down, status, budget, key, query, top, alerts):
    main.add_command(command)
