"""`spendmeter reconcile`: exit 0 when all is equal, 1 when it differs, 2 when it cannot be compared."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from spendmeter.cli.connection import cluster_settings
from spendmeter.cli.options import dir_option, json_option, wait_option
from spendmeter.cli.printing import print_json, say_lines
from spendmeter.history.reconciles import note_reconcile
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.runtime import clickhouse
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.reconcile.connection import reading, writing
from spendmeter_sinks.reconcile.kafka_reader import CannotCompare
from spendmeter_sinks.reconcile.remember import remembered
from spendmeter_sinks.reconcile.report import Report, render
from spendmeter_sinks.reconcile.run import reconcile as compare
from spendmeter_sinks.reconcile.scope import WindowFilter, read_window_filter

DIFFERS = 1
CANNOT_COMPARE = 2


@click.command()
@dir_option
@json_option
@click.option(
    "--window",
    metavar="WHEN",
    help="Compare only budget windows that hold this moment, or share one with START/END (either may be"
    " left out): now, a date (its midnight in UTC), or RFC 3339 such as 2026-11-22T10:00:00Z."
    "  [default: every window that the stream keeps]",
)
@wait_option("Seconds to wait, at each step, for the stream and history to come to the same point.")
def reconcile(dir_: Path | None, as_json: bool, window: str | None, wait_seconds: float) -> None:
    """Compare recorded events, stream totals, signals and history, to the nano-dollar.

    The system may be running: all are compared at the same offsets. Exit 0: equal; 1: they differ;
    2: they cannot be compared.
    """
    now = datetime.now(UTC)
    try:
        chosen = read_window_filter(window, now) if window is not None else WindowFilter()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--window") from None
    settings = _settings(dir_)
    report = _compare(settings, chosen, now, wait_seconds)
    if window is None:
        _remember(settings, report)
    print_json(report) if as_json else say_lines(render(report))
    if not report.equal:
        raise SystemExit(DIFFERS)


def _settings(dir_: Path | None) -> ClickHouseSettings:
    try:
        return cluster_settings(dir_)
    except click.ClickException as error:
        error.exit_code = CANNOT_COMPARE
        raise


def _compare(
    settings: ClickHouseSettings, chosen: WindowFilter, now: datetime, wait_seconds: float
) -> Report:
    try:
        with reading(settings) as client:
            return asyncio.run(compare(settings, client, chosen, now, wait_seconds))
    except (CannotCompare, clickhouse.Unusable) as error:
        raise _refusal(str(error)) from None
    except KafkaError as error:
        raise _refusal(asyncio.run(explained(error, settings))) from None


def _remember(settings: ClickHouseSettings, report: Report) -> None:
    """In history, where this user may write to it; else nowhere."""
    with suppress(clickhouse.Unusable), writing(settings) as client:
        note_reconcile(client, remembered(report, "reconcile"))


def _refusal(text: str) -> click.ClickException:
    refusal = click.ClickException(f"cannot compare: {text}")
    refusal.exit_code = CANNOT_COMPARE
    return refusal
