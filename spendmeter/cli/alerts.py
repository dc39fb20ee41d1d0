"""`spendmeter alerts`: past alerts, and new ones as they come."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import click

from spendmeter.cli.connection import kafka_settings, run
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import clock, print_json, print_json_line, say
from spendmeter.contract.alert import Alert
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.topics import Topic
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord


@click.group(invoke_without_command=True)
@click.option("--follow", "-f", is_flag=True, help="Stay, and print each alert as it comes.")
@dir_option
@json_option
@click.pass_context
def alerts(context: click.Context, follow: bool, dir_: Path | None, as_json: bool) -> None:
    """Alerts, oldest first: thresholds, budgets exceeded and recovered, models without a price.

    With --json and --follow: one object a line.
    """
    if context.invoked_subcommand is not None:
        return None
    settings = kafka_settings(dir_)
    if not follow:
        found: list[Alert] = []
        run(lambda: _reader(settings, found.append).read_to_end(), settings)
        if as_json:
            return print_json([alert.model_dump(mode="json") for alert in found])
        for alert in found:
            say(_line(alert))
        return None if found else say("no alerts yet")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        run(
            _reader(settings, lambda a: print_json_line(a) if as_json else say(_line(a))).run,
            settings,
        )
    return None


def _reader(settings: Settings, show: Callable[[Alert], None]) -> CompactedTopics:
    """Reads the topic once and shows every alert; a repeated alert is shown once."""
    seen = set()

    def show_alert(record: StoredRecord) -> None:
        try:
            alert = decode(Alert, record.value, record.headers)
        except InvalidRecord as invalid:
            say(f"offset {record.offset} of spend.alerts is no alert: {invalid}", err=True)
            return
        if alert.alert_id not in seen:
            seen.add(alert.alert_id)
            show(alert)

    return CompactedTopics(settings, [settings.topic(Topic.ALERTS)], show_alert)


def _line(alert: Alert) -> str:
    return f"{clock(alert.emitted_at)}  {alert.kind:<9}  {alert.message}"
