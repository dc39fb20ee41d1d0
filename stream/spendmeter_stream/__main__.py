"""`spendmeter stream`: one worker."""

import asyncio
import logging

from spendmeter.extras import needs

with needs("stream"):
    import click

CHATTY = ("faust", "mode", "spendmeter_stream.faust.app", "spendmeter_stream.faust.batch_consumer")


@click.command()
def stream() -> None:
    """Run a stream worker: it counts usage events and publishes budget signals.

    Start at most one per partition; they share the work. Settings come from the
    environment (SPENDMETER_...; docs/reference/settings.md). SIGTERM stops it cleanly.
    """
    # Loading Faust needs seconds, and no other command should wait for it.
    with needs("stream"):
        from spendmeter.runtime import logs, metrics
        from spendmeter.runtime.process import exiting_with_message
        from spendmeter.settings import load
        from spendmeter_stream.faust.app import run_worker
        from spendmeter_stream.settings import StreamSettings
        from spendmeter_stream.topics import prepared

    settings = load(StreamSettings)
    logs.configure(settings)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    with exiting_with_message(settings):
        metrics.serve(settings)
        metrics.READY.set(0)
        topics = asyncio.run(prepared(settings))
    run_worker(settings, topics)


if __name__ == "__main__":
    stream()
