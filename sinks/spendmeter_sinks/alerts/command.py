"""`spendmeter alerts relay`, `test`, `preview`, `log`: alerts that arrive, beside those that are shown."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from spendmeter.cli.alerts import alerts
from spendmeter.cli.connection import kafka_settings, name_lookup, names_settings, run
from spendmeter.cli.options import (
    INVALID_FILE,
    DurationOption,
    dir_option,
    ids_option,
    json_option,
    read_file,
)
from spendmeter.cli.printing import clock, print_json, say, say_lines
from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.domain.window import window_of
from spendmeter.extras import needs
from spendmeter.history.name_lookup import ids_of, named_message
from spendmeter.history.names import Names
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.runtime import logs
from spendmeter.runtime.process import begin, exiting_with_message
from spendmeter.settings import Settings, load
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter.values.account import account_name
from spendmeter_sinks.alerts.delivery_log import read_delivery
from spendmeter_sinks.alerts.file import InvalidRoutes, Secrets, read_routes
from spendmeter_sinks.alerts.message import MessageContext, MessageContexts, render
from spendmeter_sinks.alerts.routes import Route, due, routes_of
from spendmeter_sinks.alerts.settings import AlertSettings

log = logging.getLogger("spendmeter_sinks.alerts")

__all__ = ["alerts", "checked_routes"]

SHOWN = 10
_OF_NO_ACCOUNT = (AlertKind.ANOMALY, AlertKind.UNUSED, AlertKind.DIGEST)
_LIMIT_NANOUSD, _SPENT = NanoUsd(50_000_000_000), {AlertKind.THRESHOLD: 0.8, AlertKind.RECOVERED: 0.5}

routes_option = click.option(
    "--routes",
    "routes_file",
    type=click.Path(dir_okay=False),
    help="The file of routes.  [default: $SPENDMETER_ALERTS_ROUTES, else alerts.yaml]",
)


@alerts.command("relay")
@dir_option
@routes_option
def relay_alerts(dir_: Path | None, routes_file: str | None) -> None:
    """Send alerts to webhooks, chat, mail and pagers, as the file of routes says.

    Several share the routes. Settings come from the environment (SPENDMETER_...;
    docs/alerts.md, docs/reference/settings.md). SIGTERM ends it in order.
    """
    with needs("alerts"):
        from spendmeter_sinks.alerts.receivers import receiver_of
        from spendmeter_sinks.alerts.relay import TopicsMissing, relay

    settings = _settings(dir_)
    routes = checked_routes(routes_file or str(settings.alerts_routes))
    logs.configure(settings)

    async def work() -> None:
        stop = begin(settings)
        receivers = [receiver_of(route.target, settings.alerts_timeout_seconds) for route in routes]
        await relay(settings, routes, receivers, stop)

    with exiting_with_message(settings, TopicsMissing):
        asyncio.run(work())


@alerts.command("test")
@click.argument("route_name", metavar="ROUTE")
@routes_option
@click.option(
    "--kind",
    type=click.Choice([str(kind) for kind in AlertKind]),
    default="exceeded",
    metavar="KIND",
    show_default=True,
    help="Of alert.",
)
def try_route(route_name: str, routes_file: str | None, kind: str) -> None:
    """Send an example to the receiver of ROUTE, once, and say what it answered."""
    with needs("alerts"):
        from spendmeter_sinks.alerts.receivers import Accepted, Answer, receiver_of

    settings = load(AlertSettings)
    routes = checked_routes(routes_file or str(settings.alerts_routes))
    route = next((one for one in routes if one.name == route_name), None)
    if route is None:
        names = ", ".join(one.name for one in routes)
        raise click.BadParameter(f"there is no route {route_name!r}; there is {names}", param_hint="ROUTE")
    budget, alert = example(AlertKind(kind), datetime.now(UTC))
    message = render(route, alert, MessageContext(budget, settings.alerts_link, settings.web_url))

    async def offer() -> Answer:
        receiver = receiver_of(route.target, settings.alerts_timeout_seconds)
        try:
            return await receiver.offer(message)
        finally:
            await receiver.close()

    answer = asyncio.run(offer())
    if isinstance(answer, Accepted):
        return say(f"{route.name}: accepted by the receiver ({route.target.named_by})")
    raise click.ClickException(
        f"{route.name}: {answer.why}; correct what {route.target.named_by} has, or the receiver"
    )


@alerts.command()
@dir_option
@routes_option
@click.option("--example", "is_example", is_flag=True, help="Of made-up alerts; asks no Kafka.")
@ids_option
@click.option("--last", type=click.IntRange(1, 1000), default=SHOWN, show_default=True, help="Alerts.")
def preview(dir_: Path | None, routes_file: str | None, is_example: bool, wide: bool, last: int) -> None:
    """Show where the last alerts would go now, when, and what would be read there. Sends nothing."""
    settings = load(AlertSettings) if is_example else _settings(dir_)
    routes = checked_routes(routes_file or str(settings.alerts_routes), with_secrets=False)
    now = datetime.now(UTC)
    if is_example:
        shown = [
            example(kind, now) for kind in (AlertKind.THRESHOLD, AlertKind.EXCEEDED, AlertKind.RECOVERED)
        ]
        contexts = [
            (alert, MessageContext(budget, settings.alerts_link, settings.web_url)) for budget, alert in shown
        ]
    else:
        budgets = BudgetTopic(settings)
        known = MessageContexts(
            budgets.book, name_lookup(dir_, wide=wide), settings.alerts_link, settings.web_url
        )

        async def work() -> list[Alert]:
            found = await _last_alerts(settings, budgets, last)
            await known.learn(found)
            return found

        contexts = [(alert, known.of(alert)) for alert in run(work, settings)]
    for alert, context in contexts:
        _say_preview(routes, alert, context, now)
    if not contexts:
        say("no alerts yet; --example shows made-up ones")


@alerts.command("log")
@dir_option
@json_option
@click.option("--route", "route_name", help="Only this route's.")
@click.option("--outcome", type=click.Choice([str(one) for one in DeliveryOutcome]), help="Only these.")
@click.option("--since", type=DurationOption(), help="Only of this last span, such as 2h or 7d.")
@ids_option
def show_log(
    dir_: Path | None,
    as_json: bool,
    route_name: str | None,
    outcome: str | None,
    since: timedelta | None,
    wide: bool,
) -> None:
    """What became of each alert on each route, and why; the oldest first."""
    settings = kafka_settings(dir_)
    latest: dict[str, AlertDelivery] = {}

    def keep(record: StoredRecord) -> None:
        if (delivery := read_delivery(record)) is not None:
            latest[delivery.key()] = delivery

    topic = settings.topic(Topic.DELIVERIES)
    run(lambda: CompactedTopics(settings, [topic], keep).read_to_end(), settings)
    begin = datetime.now(UTC) - since if since is not None else None
    found = [
        one
        for one in sorted(latest.values(), key=lambda one: (one.at, one.key()))
        if (route_name is None or one.route == route_name)
        and (outcome is None or one.outcome == outcome)
        and (begin is None or one.at >= begin)
    ]
    if as_json:
        return print_json([one.model_dump(mode="json") for one in found])
    ids = ids_of(one.alert for one in found if one.alert is not None)
    names = run(lambda: name_lookup(dir_, wide=wide).names_of(ids), settings)
    for one in found:
        say(log_line(one, None if wide else names))
    return None if found else say("nothing yet")


def checked_routes(file: str, *, with_secrets: bool = True) -> list[Route]:
    """The routes of a file; what is wrong with them is said whole, exit 2."""
    secrets = None
    if with_secrets:
        with needs("alerts"):
            from spendmeter_sinks.alerts.receivers import what_is_wrong_with

        secrets = Secrets(os.environ, what_is_wrong_with)
    try:
        return read_routes(read_file(file), file, secrets)
    except InvalidRoutes as invalid:
        say_lines(str(invalid), err=True)
        sys.exit(INVALID_FILE)


def log_line(one: AlertDelivery, names: Names | None) -> str:
    """One delivery as a line; None: with ids, whole."""
    what = named_message(one.alert, names) if one.alert is not None else f"begins at offset {one.offset}"
    details = [one.reason] if one.reason else []
    if one.attempts > 1:
        details.append(f"{one.attempts} attempts")
    if one.due_at is not None:
        details.append(f"{'due' if one.outcome is DeliveryOutcome.HELD else 'reminds'} {clock(one.due_at)}")
    if one.reminders:
        details.append(f"{one.reminders} reminders")
    said = f" ({'; '.join(details)})" if details else ""
    return f"{clock(one.at)}  {one.outcome:<8} {one.route or '-':<16} {what}{said}"


def example(kind: AlertKind, now: datetime) -> tuple[Budget, Alert]:
    """A budget and an alert of it, as of now."""
    budget = Budget(
        id="example-month",
        match={"team": "*"},
        limit_nanousd=_LIMIT_NANOUSD,
        period="month",
        timezone="Europe/Berlin",
        updated_at=now,
    )
    window, subject = window_of(budget, now), {"team": "research"}
    assert window is not None, "a month has one"
    account = account_name(budget.id, subject.items())
    found = Signal(
        budget_id=budget.id,
        account=account,
        subject=subject,
        window_start=window.start,
        window_end=window.end,
        limit_nanousd=_LIMIT_NANOUSD,
        spent_nanousd=NanoUsd(int(_LIMIT_NANOUSD * _SPENT.get(kind, 1.0))),
        state=State.EXCEEDED if kind is AlertKind.EXCEEDED else State.WARNING,
        watermark={},
        revision=1,
        version=1,
        forecast_exhausted_at=now + timedelta(days=2) if kind is AlertKind.FORECAST else None,
        emitted_at=now,
    )
    is_of_account = kind not in _OF_NO_ACCOUNT
    alert = Alert(
        alert_id=alert_id(account, window.start, kind, f"example {now.isoformat()}"),
        kind=kind,
        signal=found if is_of_account else None,
        subject={} if is_of_account else subject,
        message=f"an example of {kind}, sent by `spendmeter alerts test`",
        emitted_at=now,
    )
    return budget, alert


def _settings(dir_: Path | None) -> AlertSettings:
    found = kafka_settings(dir_)
    update: dict[str, object] = {
        "kafka_bootstrap": found.kafka_bootstrap,
        "signing_keys_file": found.signing_keys_file,
    }
    if (history := names_settings(dir_)) is not None:
        update |= {
            "clickhouse_url": history.clickhouse_url,
            "clickhouse_user": history.clickhouse_user,
            "clickhouse_password": history.clickhouse_password,
        }
    return load(AlertSettings).model_copy(update=update)


async def _last_alerts(settings: Settings, budgets: BudgetTopic, count: int) -> list[Alert]:
    found: dict[object, Alert] = {}

    def keep(record: StoredRecord) -> None:
        try:
            alert = decode(Alert, record.value, record.headers)
        except InvalidRecord:
            return
        found[alert.alert_id] = alert

    await CompactedTopics(settings, [settings.topic(Topic.ALERTS)], keep).read_to_end()
    await budgets.read_to_end()
    return list(found.values())[-count:]


def _say_preview(routes: Sequence[Route], alert: Alert, context: MessageContext, now: datetime) -> None:
    say(f"{clock(alert.emitted_at)}  {alert.kind}  {named_message(alert, context.names)}")
    found = routes_of(routes, alert)
    for route in found:
        held = due(route, alert, now, None)
        when = f"at {clock(held.at)}: {held.why}" if held else "at once"
        message = render(route, alert, context)
        say(f"  → {route.name} ({route.target.service} {route.target.named_by}), {when}")
        for line in (message.title, *message.text.splitlines()):
            say(f"      {line}")
    if not found:
        say("  → nowhere: no route matches")
    say()
