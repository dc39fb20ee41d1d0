"""The relay: every route at work in one process, until it ends. Several processes share the routes."""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from spendmeter.contract.topics import Topic
from spendmeter.history.name_lookup import NameLookup
from spendmeter.runtime.metrics import READY
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.check import check_topics
from spendmeter.topics.state import WATCH_EVERY_SECONDS, TopicState, until_changed
from spendmeter_sinks.alerts.delivery_log import DeliveryLog
from spendmeter_sinks.alerts.message import MessageContexts
from spendmeter_sinks.alerts.receivers import Receiver
from spendmeter_sinks.alerts.route_relay import Clock, RouteRelay
from spendmeter_sinks.alerts.routes import Route
from spendmeter_sinks.alerts.settings import AlertSettings

log = logging.getLogger(__name__)


class TopicsMissing(RuntimeError):
    """The relay cannot begin; the message says which topic and how to make it."""


async def relay(
    settings: AlertSettings,
    routes: Sequence[Route],
    receivers: Sequence[Receiver],
    stop: asyncio.Event,
    clock: Clock = Clock(),  # noqa: B008
    ready: asyncio.Event | None = None,
) -> None:
    """Relay until `stop`; a receiver for each route, in their order. `ready` is set once all have begun.

    Raises:
        TopicsMissing: see the message.
        KafkaError: the broker cannot be reached at the start.
    """
    checked = await check_topics(settings, [Topic.ALERTS, Topic.DELIVERIES, Topic.BUDGETS])
    if checked.fatal:
        raise TopicsMissing(checked.fatal)
    budgets = BudgetTopic(settings)
    deliveries = DeliveryLog(settings)
    following = asyncio.create_task(budgets.run())
    READY.needs_kafka(lambda: budgets.last_answer)
    try:
        await budgets.wait_caught_up()
        history = settings if settings.has_history else None
        lookup = NameLookup(history, settings.alerts_names_within_seconds)
        lookup.connect()
        contexts = MessageContexts(budgets.book, lookup, settings.alerts_link, settings.web_url)
        works = [
            RouteRelay(settings, routes, route, receiver, contexts, deliveries, clock)
            for route, receiver in zip(routes, receivers, strict=True)
        ]
        await _say_what_nobody_sends(deliveries, routes)
        watching = asyncio.create_task(_watch(settings, checked.states, works))
        try:
            await _run(works, following, stop, ready or asyncio.Event())
        finally:
            watching.cancel()
    finally:
        following.cancel()
        await deliveries.close()


async def _run(
    works: Sequence[RouteRelay], following: asyncio.Task[None], stop: asyncio.Event, ready: asyncio.Event
) -> None:
    tasks = [asyncio.create_task(work.run(stop)) for work in works]
    saying = asyncio.create_task(_say_ready(works, ready))
    # Whichever ends first, in order or by a bug, ends all.
    await asyncio.wait([*tasks, following], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    READY.set(0)
    saying.cancel()
    await asyncio.gather(*tasks)
    if following.done():
        following.result()


async def _watch(
    settings: AlertSettings, states: Mapping[str, TopicState], works: Sequence[RouteRelay]
) -> None:
    """Have each route begin again when spend.alerts was made anew: its offsets mean others then."""
    name = settings.topic(Topic.ALERTS)
    known = states[name]
    while True:
        now = (await until_changed(settings, [name], {name: known})).get(name, known)
        if now.incarnation != known.incarnation:
            log.warning("%s was deleted and created anew: each route reads all of it", name)
            for work in works:
                work.begin_again()
        known = now
        await asyncio.sleep(WATCH_EVERY_SECONDS)


async def _say_what_nobody_sends(deliveries: DeliveryLog, routes: Sequence[Route]) -> None:
    """Log what is held by routes that are not here: of a renamed one, nobody would hear of it again."""
    held = await deliveries.held_by_others({route.name for route in routes})
    for name, count in sorted(held.items()):
        log.warning(
            "route %s holds %d alerts and is not in the file of routes: unless another relay has it, they"
            " are not sent. Give the name back until they are (`spendmeter alerts log --outcome held`)",
            name,
            count,
        )


async def _say_ready(works: Sequence[RouteRelay], ready: asyncio.Event) -> None:
    for work in works:
        await work.ready.wait()
    READY.set(1)
    ready.set()
    log.info("relaying alerts on %d routes", len(works))
