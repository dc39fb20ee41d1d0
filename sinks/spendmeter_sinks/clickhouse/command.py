"""`spendmeter sink`: one worker; `spendmeter sink migrate`: the tables."""

import click


@click.group(invoke_without_command=True)
@click.pass_context
def sink(context: click.Context) -> None:
    """Run a ClickHouse sink: it keeps every record, once, as history.

    Several share the work. Settings come from the environment (SPENDMETER_...;
    docs/reference/settings.md). SIGTERM ends it in order.
    """
    if context.invoked_subcommand is None:
        from spendmeter_sinks.clickhouse.__main__ import keep_history

        keep_history()


@sink.command()
def migrate() -> None:
    """Make the database and its tables, or bring them up to this version."""
    from spendmeter_sinks.clickhouse.__main__ import migrate_schema

    migrate_schema()
