"""A relay of one's own: topics that no other test uses, and receivers that are real HTTP servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from spendmeter.contract.alert import Alert
from spendmeter.contract.records import encode_alert
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.topics.create import create_topics
from spendmeter_sinks.alerts.receivers import receiver_of
from spendmeter_sinks.alerts.relay import relay
from spendmeter_sinks.alerts.route_relay import Clock
from spendmeter_sinks.alerts.routes import Route
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.integration.alerts.receiver import HttpServer

Put = Callable[[Sequence[Alert]], Awaitable[None]]
Running = Callable[..., AbstractAsyncContextManager[asyncio.Event]]


@pytest.fixture
async def settings(kafka: str, topic_prefix: str) -> AlertSettings:
    """Settings of a relay whose topics exist."""
    settings = AlertSettings(kafka_bootstrap=kafka, topic_prefix=topic_prefix, alerts_timeout_seconds=1.0)
    await create_topics(settings)
    return settings


@pytest.fixture
async def put(settings: AlertSettings) -> AsyncIterator[Put]:
    """Send alerts, in order, and wait until the broker has them."""
    kafka = producer(settings)
    await kafka.start()

    async def put(alerts: Sequence[Alert]) -> None:
        topic = settings.topic(Topic.ALERTS)
        await asyncio.gather(*[await kafka.send(topic, **encode_alert(one)._asdict()) for one in alerts])

    yield put
    await kafka.stop()


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    """A receiver."""
    async with HttpServer.started() as server:
        yield server


@pytest.fixture
def running(settings: AlertSettings) -> Running:
    """A relay of these routes, in this process, for as long as the context lasts. It has begun on entry."""

    @asynccontextmanager
    async def running(routes: Sequence[Route], clock: Clock = Clock()) -> AsyncIterator[asyncio.Event]:  # noqa: B008
        stop = asyncio.Event()
        receivers = [receiver_of(route.target, settings.alerts_timeout_seconds) for route in routes]
        ready = asyncio.Event()
        working = asyncio.create_task(relay(settings, routes, receivers, stop, clock, ready))
        began = asyncio.create_task(ready.wait())
        await asyncio.wait([working, began], return_when=asyncio.FIRST_COMPLETED)
        try:
            if working.done():
                await working
            yield stop
        finally:
            began.cancel()
            stop.set()
            await working

    return running
