"""`spendmeter import litellm`: imports the budgets of a running LiteLLM, and can move its own
limits aside.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import click

from spendmeter.cli.connection import cluster_settings, history, kafka_settings, run
from spendmeter.cli.litellm.render import ImportSummary, as_data, render
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json
from spendmeter.client import connect
from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.history.usage import read_known
from spendmeter.kafka.client import producer
from spendmeter.litellm.api import LitellmApi, NotAnswered
from spendmeter.litellm.rows import Owned, read_litellm
from spendmeter.litellm.spend import events_of, source_of, spent_of
from spendmeter.litellm.whole_import import IMPORTED_BY, Item, Wish, import_of, whole_plan
from spendmeter.settings import ClickHouseSettings
from spendmeter.values.times import time_zones

NOT_ALL_DONE = 1


def missing_spend(api: LitellmApi, since: date, dir_: Path | None) -> list[UsageEvent]:
    """The events that history lacks. Raises NotAnswered, click.ClickException."""
    settings = cluster_settings(dir_)
    today, source = datetime.now(UTC).date(), source_of(api.url)
    spent = list(spent_of(api.spent_by_day(since, today)))
    keys = {row["token"]: row for row in api.virtual_keys()}
    with history(settings) as client:
        known = read_known(client, settings.topic(Topic.USAGE), source, since)
    return events_of(spent, known, keys, source, today)


def send_spend(events: Sequence[UsageEvent], dir_: Path | None) -> None:
    """Return once Kafka has stored them all; the same ones again are dropped as resends."""
    settings = cluster_settings(dir_)
    run(lambda: _send(settings, events), settings, failed="Kafka did not acknowledge the spend so far")


async def _send(settings: ClickHouseSettings, events: Sequence[UsageEvent]) -> None:
    kafka = producer(settings)
    try:
        await kafka.start()
        for event in events:
            record = encode_usage(event)
            name = settings.topic(Topic.USAGE)
            # One after the other: a key's sequence numbers must arrive in order.
            await kafka.send_and_wait(name, key=record.key, value=record.value, headers=record.headers)
    finally:
        await kafka.stop()


@click.group(name="import")
def import_() -> None:
    """Budgets that another system has."""


@import_.command()
@click.option("--url", envvar="SPENDMETER_PROXY_URL", required=True, help="The LiteLLM proxy.")
@click.option("--api-key", envvar="SPENDMETER_MASTER_KEY", required=True, help="Its master key.")
@click.option(
    "--apply", "is_applied", is_flag=True, help="Carry out the plan; without it the plan is only shown."
)
@click.option(
    "--take-over", is_flag=True, help="Move LiteLLM's own limits aside: only ours refuse from then on."
)
@click.option("--undo", is_flag=True, help="Put the limits that were moved aside back into LiteLLM.")
@click.option("--timezone", default="UTC", show_default=True, help="LiteLLM's `litellm_settings.timezone`.")
@click.option(
    "--spend-since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Also import spend that LiteLLM counted since that day (UTC) and history lacks, until yesterday.",
)
@dir_option
@json_option
def litellm(
    url: str,
    api_key: str,
    is_applied: bool,
    take_over: bool,
    undo: bool,
    timezone: str,
    spend_since: datetime | None,
    dir_: Path | None,
    as_json: bool,
) -> None:
    """Import the budgets of keys, teams, members, users, customers, tags, organizations and projects.

    A second run finds nothing left to do. Resets, raises and pauses that people have set here
    stay; limits and windows are LiteLLM's.
    """
    if take_over and undo:
        raise click.UsageError("--take-over and --undo are opposites; give one")
    if undo and spend_since:
        raise click.UsageError("--undo imports nothing; leave out --spend-since")
    if timezone not in time_zones():
        raise click.UsageError(f"--timezone {timezone!r} is not an IANA time zone such as Europe/Berlin")
    wish: Wish = "undo" if undo else "take over" if take_over else "budgets"
    try:
        api = LitellmApi(url, api_key)
        found, unread = read_litellm(api, timezone)
        spent = missing_spend(api, spend_since.date(), dir_) if spend_since else []
    except NotAnswered as error:
        raise click.ClickException(str(error)) from None
    items = _budgets(found, wish, dir_, is_applied=is_applied)
    if is_applied and spent:
        send_spend(spent, dir_)
    failures = _ask(api, items) if is_applied else []
    summary = ImportSummary(items, spent, unread, failures, is_applied)
    print_json(as_data(summary)) if as_json else render(summary)
    if failures:
        raise SystemExit(NOT_ALL_DONE)


def _budgets(found: Sequence[Owned], wish: Wish, dir_: Path | None, *, is_applied: bool) -> list[Item]:
    settings = kafka_settings(dir_)

    async def work() -> list[Item]:
        async with connect(settings, by=IMPORTED_BY) as client:
            items = import_of(found, await client.budgets(), wish, datetime.now(UTC))
            if is_applied:
                await client.carry_out(whole_plan(items))
            return items

    return run(work, settings)


def _ask(api: LitellmApi, items: Sequence[Item]) -> list[str]:
    """Change LiteLLM if requested; returns a text for each change that failed."""
    failures = []
    for item in items:
        if item.call is not None:
            try:
                api.post(*item.call)
            except NotAnswered as error:
                failures.append(f"{item.owned.seen.description}: {error}")
    return failures
