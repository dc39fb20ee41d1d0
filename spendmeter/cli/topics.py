"""`spendmeter topics`: creates the topics that every process needs before it starts."""

import click

from spendmeter.topics.create import main


@click.command()
def topics() -> None:
    """Create the missing topics; existing ones stay unchanged.

    SPENDMETER_PARTITIONS and SPENDMETER_REPLICATION apply (docs/operations.md).
    """
    main()
