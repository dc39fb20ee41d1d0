"""`python -m sinks.clickhouse`: keep history. `python -m sinks.clickhouse migrate`: make its tables."""

import asyncio
import logging
import signal
import sys
from datetime import UTC, datetime

from spendmeter.extras import needs

with needs("sink"):
    from sinks.clickhouse.consumer import Sink
    from sinks.clickhouse.garbage import leave_to_the_sink
    from sinks.clickhouse.history import History
    from sinks.clickhouse.migrate import SchemaMismatch, migrate
    from sinks.clickhouse.owner import OwnedByAnother
    from sinks.clickhouse.settings import SinkSettings
    from sinks.clickhouse.writer import NotMigrated, PartialInsert, open_client
    from sinks.opening.filler import Filler
    from spendmeter.runtime import clickhouse, logs, metrics
    from spendmeter.runtime.fetched import fetch_cheaply
    from spendmeter.runtime.process import ending_in_words
    from spendmeter.runtime.settings import load

log = logging.getLogger("sinks.clickhouse")


async def run(settings: SinkSettings) -> None:
    """Keep history until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sent, stop.set)
    metrics.READY.set(0)
    metrics.serve(settings)
    sink = Sink(settings, History(settings, lambda: datetime.now(UTC)))
    filler = Filler(settings, lambda: sink.owns_the_first, lambda: sink.lineage)
    # Whichever ends first, in order or by an error, ends the other.
    works = [asyncio.create_task(work.run(stop)) for work in (sink, filler)]
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.gather(*works)


def main() -> None:
    leave_to_the_sink()
    fetch_cheaply()
    if sys.argv[1:] not in ([], ["migrate"]):
        sys.exit("usage: python -m sinks.clickhouse [migrate]")
    settings = load(SinkSettings)
    logs.configure(settings)
    ours = (SchemaMismatch, NotMigrated, OwnedByAnother, PartialInsert, clickhouse.Unusable)
    with ending_in_words(settings, *ours), clickhouse.in_words(settings):
        if sys.argv[1:] == ["migrate"]:
            client = open_client(settings, database=None)
            migrate(client, settings.clickhouse_database)
            log.info("database %s is up to date", settings.clickhouse_database)
        else:
            asyncio.run(run(settings))


if __name__ == "__main__":
    main()
