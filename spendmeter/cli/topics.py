"""`spendmeter topics`: what every process needs before it starts."""

import click

from spendmeter.topics.create import main


@click.command()
def topics() -> None:
    """Create the topics that are missing; those that exist stay as they are.

    SPENDMETER_PARTITIONS and SPENDMETER_REPLICATION say how (docs/operations.md).
    """
    main()
