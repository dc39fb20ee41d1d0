"""The sender's view of Kafka: it accepts batches and returns the offsets at which they are stored.

The only module of the gateway that imports Kafka's client: others have its names from here.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as KafkaError
from aiokafka.structs import ConsumerRecord as ConsumerRecord

from spendmeter.contract.records import Record
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import producer
from spendmeter.settings import Settings
from spendmeter.topics.state import TopicState, topic_states

log = logging.getLogger(__name__)

# The producer itself retries while we wait; a new one finds brokers that have moved.
DELIVERY_TIMEOUT_SECONDS = 15.0
CONNECT_TIMEOUT_SECONDS = 15.0
_STOP_TIMEOUT_SECONDS = 2.0

Batches = Mapping[int, Sequence[Record]]
"""Records by partition; each partition's become one Kafka batch, so at most as many as `batch_of` returns."""


class NotDelivered(Exception):
    """Some batches may or may not be stored. `stored` has those that are, with their base offsets."""

    def __init__(self, reason: BaseException | str, stored: Mapping[int, int]) -> None:
        super().__init__(str(reason) or type(reason).__name__)
        self.stored = stored


class Delivery:
    """One idempotent producer on a topic at a time; after any failure it is replaced."""

    def __init__(self, settings: Settings, topic: Topic = Topic.USAGE) -> None:
        self._settings = settings
        self._topic = settings.topic(topic)
        self._producer: AIOKafkaProducer | None = None
        self._incarnation: str | None = None
        """The topic's state when the producer started."""

    async def topic(self, *, fresh: bool = False) -> TopicState:
        """The topic's partitions now, and its incarnation when this producer started or, if `fresh`, now.

        Raises NotDelivered.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                connected = await self._connected()
                partitions = len(await connected.partitions_for(self._topic))
                if fresh or self._incarnation is None:
                    states = await topic_states(connected.client, [self._topic])
                    self._incarnation = states[self._topic].incarnation if self._topic in states else ""
                return TopicState(self._incarnation, partitions)
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise NotDelivered(error, {}) from error

    async def send(self, batches: Batches) -> dict[int, int]:
        """Store each batch; returns the offset of each one's first record. Raises NotDelivered."""
        futures: dict[int, asyncio.Future[object]] = {}
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
                connected = await self._connected()
                for partition, records in batches.items():
                    batch = _batch(connected, records)
                    futures[partition] = await connected.send_batch(batch, self._topic, partition=partition)
                await asyncio.wait(futures.values())
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise NotDelivered(error, _stored(futures)) from error
        stored = _stored(futures)
        if len(stored) < len(batches):
            reason = next((f.exception() for f in futures.values() if f.exception()), None)
            await self.close()
            raise NotDelivered(reason or "the broker gave no offset", stored)
        return stored

    async def close(self) -> None:
        """Drop the producer, with everything that it still holds."""
        given_up, self._producer, self._incarnation = self._producer, None, None
        if given_up is not None:
            await _discard(given_up)

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            fresh = producer(self._settings)
            try:
                await fresh.start()
            except BaseException:
                await _discard(fresh)
                raise
            self._producer = fresh
        return self._producer


def _batch(connected: AIOKafkaProducer, records: Sequence[Record]) -> object:
    batch = connected.create_batch()
    for record in records:
        added = batch.append(key=record.key, value=record.value, headers=record.headers, timestamp=None)
        assert added is not None, "a sender sends no more than batch_of returns"
    batch.close()
    return batch


def _stored(futures: Mapping[int, "asyncio.Future[object]"]) -> dict[int, int]:
    stored = {}
    for partition, future in futures.items():
        # This also retrieves the exceptions of futures that nobody awaits any more.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if future.done() and not future.cancelled() and future.exception() is None:
            offset = getattr(future.result(), "offset", -1)
            # A broker that no longer knows the offset of a repeated batch says -1: then we send it again.
            if offset >= 0:
                stored[partition] = offset
    return stored


async def _discard(given_up: AIOKafkaProducer) -> None:
    """End a producer together with its batches: its own stop() waits for them for ever (aiokafka #1101)."""
    sending = given_up._sender.sender_task
    if sending is not None:
        sending.cancel()
    # Even if closing fails, the producer is dropped, and its successor does not depend on it.
    with contextlib.suppress(Exception):
        await asyncio.wait_for(given_up.client.close(), _STOP_TIMEOUT_SECONDS)
    if sending is not None:
        await asyncio.wait([sending], timeout=_STOP_TIMEOUT_SECONDS)
    given_up._closed = True
