"""`spendmeter sink`: one worker; `spendmeter sink migrate`: the tables."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from spendmeter.extras import needs

with needs("sink"):
    import click

    from spendmeter.kafka.fetch import fetch_cheaply
    from spendmeter.runtime import clickhouse, logs, metrics
    from spendmeter.runtime.process import begin, exiting_with_message
    from spendmeter.settings import load
    from spendmeter_sinks.clickhouse.consumer import Sink
    from spendmeter_sinks.clickhouse.gc import leave_to_the_sink
    from spendmeter_sinks.clickhouse.insert_pipeline import InsertPipeline
    from spendmeter_sinks.clickhouse.settings import SinkSettings
    from spendmeter_sinks.clickhouse.writer import NotMigrated, PartialInsert, open_client
    from spendmeter_sinks.database.migrate import SchemaMismatch, migrate
    from spendmeter_sinks.database.owner import OwnedByAnother
    from spendmeter_sinks.opening_balance.backfill import Backfill
    from spendmeter_sinks.roll_ups.roller import RollUps

log = logging.getLogger("spendmeter_sinks")


@click.group(invoke_without_command=True)
@click.pass_context
def sink(context: click.Context) -> None:
    """Run a ClickHouse sink: it stores every record once, as history.

    Several sinks share the work. Settings come from the environment (SPENDMETER_...;
    docs/reference/settings.md). SIGTERM stops it cleanly.
    """
    if context.invoked_subcommand is not None:
        return
    leave_to_the_sink()
    fetch_cheaply()
    with _configured() as settings:
        asyncio.run(run(settings))


@sink.command("migrate")
def migrate_schema() -> None:
    """Create the database and its tables, or bring them up to this version."""
    with _configured() as settings:
        client = open_client(settings, database=None)
        migrate(client, settings.clickhouse_database)
        log.info("database %s is up to date", settings.clickhouse_database)


async def run(settings: SinkSettings) -> None:
    """Keep history until SIGTERM or SIGINT."""
    stop = begin(settings)
    sink = Sink(settings, InsertPipeline(settings, lambda: datetime.now(UTC)))
    filler = Backfill(settings, lambda: sink.owns_the_first, lambda: sink.lineage)
    metrics.READY.needs_kafka(lambda: filler.last_answer)
    roll_ups = RollUps(settings, lambda: sink.owns_the_first)
    # Whichever ends first, cleanly or by an error, ends the others.
    works = [asyncio.create_task(work.run(stop)) for work in (sink, filler, roll_ups)]
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.gather(*works)


@contextmanager
def _configured() -> Iterator[SinkSettings]:
    settings = load(SinkSettings)
    logs.configure(settings)
    ours = (SchemaMismatch, NotMigrated, OwnedByAnother, PartialInsert, clickhouse.Unusable)
    with exiting_with_message(settings, *ours), clickhouse.raising_unusable(settings):
        yield settings


if __name__ == "__main__":
    sink()
