"""Records that go to a topic without the outbox: in memory, sent by Kafka's thread; no request waits for
them.

For records that are not spend and so not worth a disk write on the request path: a crash may lose the last
ones, and so may a long outage of Kafka.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import Counter

from spendmeter.contract.records import Record
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import batch_of
from spendmeter.settings import Settings
from spendmeter_gateway.loops import call_soon
from spendmeter_gateway.outbox.kafka import Delivery, NotDelivered

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
# At most as many bytes as one Kafka batch holds.
MAX_SENT_AT_ONCE = 50
_RETRY_SECONDS = 1.0

T = TypeVar("T")


class RecordQueue(Generic[T]):
    """Call `add` from any thread, `run` on Kafka's loop. For a topic with one partition."""

    def __init__(
        self, settings: Settings, topic: Topic, encode: Callable[[T], Record], lost: Counter
    ) -> None:
        self._topic, self._encode, self._lost = topic, encode, lost
        self._delivery = Delivery(settings, topic)
        self._waiting: deque[T] = deque()
        self._sending: list[T] = []
        self._woken, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, one: T) -> None:
        """Queue one record; beyond MAX_WAITING it is lost and counted."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost.inc()
            return
        self._waiting.append(one)
        loop = self._loop
        if loop is not None:
            call_soon(loop, self._wake)

    async def run(self) -> None:
        """Send until cancelled; records that may not be stored are sent again, under the same id."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                while self._sending or self._waiting:
                    await self._send_some()
                self._idle.set()
                await self._woken.wait()
                self._woken.clear()
        finally:
            await self._delivery.close()

    async def drain(self, timeout_seconds: float) -> None:
        """Wait until everything added is stored, or for that long. Runs on the loop of `run`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)

    def _wake(self) -> None:
        self._idle.clear()
        self._woken.set()

    async def _send_some(self) -> None:
        while self._waiting and len(self._sending) < MAX_SENT_AT_ONCE:
            self._sending.append(self._waiting.popleft())
        # They may be long, because they contain names that clients choose.
        batch = batch_of(self._encode(one) for one in self._sending)
        try:
            await self._delivery.send({0: batch})
            del self._sending[: len(batch)]
        except NotDelivered as error:
            log.warning("%s cannot be written, trying again: %s", self._topic, error)
            await asyncio.sleep(_RETRY_SECONDS)
