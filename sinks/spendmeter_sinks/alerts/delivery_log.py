"""spend.deliveries: what became of each alert on a route. Whoever has the route next goes on from there.

A group's commit says up to where a route has dealt with alerts; this topic, what it still holds, what it has
sent, and when it reminds of it.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from spendmeter.contract.alert import AlertDelivery, DeliveryOutcome
from spendmeter.contract.records import InvalidRecord, decode, encode_delivery
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import AIOKafkaProducer, KafkaError, producer, start
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord

CLOSE_WITHIN_SECONDS = 5.0
MAX_REMEMBERED = 100_000
"""Alerts that a route knows to be dealt with. An older one that comes again is sent again, by its own id."""


class RouteState:
    """What a route has in hand: a fold of its deliveries, the latest of each alert."""

    def __init__(self) -> None:
        self.began: AlertDelivery | None = None
        self.held: dict[UUID, AlertDelivery] = {}
        self.reminding: dict[UUID, AlertDelivery] = {}
        self._dealt_with: dict[UUID, None] = {}

    def apply(self, delivery: AlertDelivery) -> None:
        """Bring in one delivery; those of an alert come in their order."""
        if delivery.outcome is DeliveryOutcome.STARTED or delivery.alert_id is None:
            self.began = delivery
            return
        self.held.pop(delivery.alert_id, None)
        self.reminding.pop(delivery.alert_id, None)
        if delivery.outcome is DeliveryOutcome.HELD:
            self.held[delivery.alert_id] = delivery
            return
        if delivery.due_at is not None:
            self.reminding[delivery.alert_id] = delivery
        self._dealt_with[delivery.alert_id] = None
        while len(self._dealt_with) > MAX_REMEMBERED:
            self._dealt_with.pop(next(iter(self._dealt_with)))

    def knows(self, alert_id: UUID) -> bool:
        """Whether the alert was sent or skipped, or is held."""
        return alert_id in self._dealt_with or alert_id in self.held

    @property
    def next_due(self) -> datetime | None:
        """When something is to be sent that no new alert brings."""
        waiting = (*self.held.values(), *self.reminding.values())
        return min((one.due_at for one in waiting if one.due_at is not None), default=None)

    def due(self, now: datetime) -> tuple[list[AlertDelivery], list[AlertDelivery]]:
        """What is held until now, and of what it is time to remind; the oldest first."""
        return _due(self.held, now), _due(self.reminding, now)


class DeliveryLog:
    """Writes deliveries, and reads those of a route."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topic(Topic.DELIVERIES)
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def read(self, route: str) -> RouteState:
        """What the route had in hand when everything up to now was written.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        state, ours = RouteState(), f"{route}|".encode()

        def on_record(record: StoredRecord) -> None:
            # By the key first: reading the records of all routes costs a hundred times as much.
            if (record.key or b"").startswith(ours) and (delivery := read_delivery(record)) is not None:
                state.apply(delivery)

        await CompactedTopics(self._settings, [self._topic], on_record).read_to_end()
        return state

    async def held_by_others(self, names: Collection[str]) -> Counter[str]:
        """How many alerts each route holds that has none of these names.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        latest: dict[str, AlertDelivery] = {}

        def on_record(record: StoredRecord) -> None:
            route = (record.key or b"").rpartition(b"|")[0].decode(errors="replace")
            if route not in names and (delivery := read_delivery(record)) is not None:
                latest[delivery.key()] = delivery

        await CompactedTopics(self._settings, [self._topic], on_record).read_to_end()
        return Counter(one.route for one in latest.values() if one.outcome is DeliveryOutcome.HELD)

    async def write(self, deliveries: Iterable[AlertDelivery]) -> None:
        """Return once all are stored.

        Raises:
            KafkaError: they may not be.
        """
        kafka = await self._open()
        try:
            sent = [
                await kafka.send(self._topic, **encode_delivery(one)._asdict(), partition=0)
                for one in deliveries
            ]
            await asyncio.gather(*sent)
        except KafkaError:
            # One that has lost a record accepts no further ones: an idempotent producer keeps its order.
            if self._producer is kafka:
                await self.close()
            raise

    async def close(self) -> None:
        """Let go of the broker; a later write opens it again."""
        kafka, self._producer = self._producer, None
        if kafka is not None:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(kafka.stop(), CLOSE_WITHIN_SECONDS)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                kafka = producer(self._settings)
                await start(kafka)
                self._producer = kafka
            return self._producer


def read_delivery(record: StoredRecord) -> AlertDelivery | None:
    """The delivery in a record; None for a tombstone and for what is none."""
    try:
        delivery = decode(AlertDelivery, record.value, record.headers)
    except InvalidRecord:
        return None
    return delivery if delivery.key().encode() == record.key else None


def _due(waiting: dict[UUID, AlertDelivery], now: datetime) -> list[AlertDelivery]:
    found = [one for one in waiting.values() if one.due_at is not None and one.due_at <= now]
    return sorted(found, key=lambda one: (one.at, one.key()))
