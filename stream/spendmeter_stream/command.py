"""`spendmeter stream`: one worker."""

import click


@click.command()
def stream() -> None:
    """Run a stream worker: it counts usage events and publishes budget signals.

    Start as many as there are partitions; they share the work. Settings come from the
    environment (SPENDMETER_...; docs/reference/settings.md). SIGTERM ends it in order.
    """
    from spendmeter_stream.__main__ import main

    main()
