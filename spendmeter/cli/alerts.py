"""`spendmeter alerts`: past alerts, and new ones as they come."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from spendmeter.cli.connection import kafka_settings, name_lookup, run
from spendmeter.cli.lists import Listing, Row, amounts, list_options, show_list
from spendmeter.cli.options import dir_option, ids_option, json_option
from spendmeter.cli.printing import STATES, clock, print_json, print_json_line, print_table, say
from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.topics import Topic
from spendmeter.history.lists import alerts_query
from spendmeter.history.name_lookup import NameLookup, ids_of, named_message
from spendmeter.history.names import Names
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter.visible import one_line


@click.group(invoke_without_command=True)
@click.option("--follow", "-f", is_flag=True, help="Stay, and print each alert as it comes.")
@dir_option
@json_option
@ids_option
@click.pass_context
def alerts(context: click.Context, follow: bool, dir_: Path | None, as_json: bool, wide: bool) -> None:
    """Alerts, oldest first: thresholds, budgets exceeded and recovered, models without a price.

    With --json and --follow: one object a line.
    """
    if context.invoked_subcommand is not None:
        return None
    settings = kafka_settings(dir_)
    lookup = name_lookup(dir_, wide=wide or as_json)
    if not follow:
        found: list[Alert] = []

        async def work() -> Names:
            await _reader(settings, found.append).read_to_end()
            return await lookup.names_of(ids_of(found))

        names = run(work, settings)
        if as_json:
            return print_json([alert.model_dump(mode="json") for alert in found])
        for alert in found:
            say(_line(alert, None if wide else names))
        return None if found else say("no alerts yet")
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        run(lambda: follow_alerts(settings, lookup, as_json, wide), settings)
    return None


@alerts.command("list")
@list_options("--kind", AlertKind)
def list_(listing: Listing) -> None:
    """Alerts of all time, newest first, from history; `spendmeter explain ALERT` shows what one rests on."""
    show_list(listing, alerts_query, "no such alert", _print)


def _print(rows: Sequence[Row], zone: ZoneInfo) -> None:
    headings = (f"when ({zone.key})", "kind", "budget", "whose or what", "spent of limit", "alert")
    print_table(
        headings,
        [
            (
                clock(row["emitted_at"], zone),
                row["kind"],
                row["budget_id"] or "-",
                # Where an account is concerned the columns say as much.
                row["whose"] or one_line(row["message"]),
                amounts(row),
                str(row["alert_id"]),
            )
            for row in rows
        ],
        whole=(headings[0], "kind", "spent of limit", "alert"),
        below="alert",
        colours={"kind": STATES},
    )


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


async def follow_alerts(settings: Settings, lookup: NameLookup, as_json: bool, wide: bool) -> None:
    """Print each alert as it comes; the names of those that have come meanwhile are one lookup."""
    came: asyncio.Queue[Alert] = asyncio.Queue()
    reading = asyncio.create_task(_reader(settings, came.put_nowait).run())
    printing = asyncio.create_task(_print_all(came, lookup, as_json, wide))
    try:
        done, _ = await asyncio.wait([reading, printing], return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        reading.cancel()
        printing.cancel()
        await asyncio.gather(reading, printing, return_exceptions=True)


async def _print_all(came: asyncio.Queue[Alert], lookup: NameLookup, as_json: bool, wide: bool) -> None:
    while True:
        some = [await came.get()]
        while not came.empty():
            some.append(came.get_nowait())
        names = await lookup.names_of(ids_of(some))
        for alert in some:
            if as_json:
                print_json_line(alert)
            else:
                say(_line(alert, None if wide else names))


def _line(alert: Alert, names: Names | None) -> str:
    return f"{clock(alert.emitted_at)}  {alert.kind:<9}  {named_message(alert, names)}"
