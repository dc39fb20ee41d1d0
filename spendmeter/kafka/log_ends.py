"""The ends of spend.usage: whatever claims to include more is forged, or belongs to a recreated topic."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from spendmeter.kafka.client import consumer, start
from spendmeter.kafka.compacted import CATCH_UP_WITHIN_SECONDS, CompactedTopics
from spendmeter.settings import Settings

log = logging.getLogger(__name__)

ASK_WITHIN_SECONDS = 10.0
RETRY_SECONDS = 1.0
BETWEEN_QUESTIONS_SECONDS = 0.01
"""Many items may come between two refreshes; a request for each would cost too much."""
MAX_WAITING = 100_000
"""Items that wait for an answer. The next item of the same account replaces one; the oldest are dropped
first.
"""
T = TypeVar("T")


class LogEnds:
    """The known ends of a topic's partitions, and how to refresh them. Runs on one loop.

    It has its own connection: on another one the request would wait behind a fetch that the broker holds.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._settings = settings
        self._ends: dict[int, int] = {}
        self._asker: AIOKafkaConsumer | None = None

    def stored(self, partition: int, offset: int) -> None:
        """Note that a record is stored there."""
        if offset >= self._ends.get(partition, 0):
            self._ends[partition] = offset + 1

    def end(self, partition: int) -> int:
        """The known end of the partition."""
        return self._ends.get(partition, 0)

    def hold(self, last_offsets: Mapping[int, int]) -> bool:
        """Whether each of these partitions is known to have had that offset."""
        ends = self._ends
        return all(offset < ends.get(partition, 0) for partition, offset in last_offsets.items())

    async def refresh(self, partitions: Iterable[int] = ()) -> None:
        """Read the ends of all partitions, the named ones included if they exist; retries until Kafka
        answers.
        """
        wanted = set(partitions)
        while True:
            try:
                async with asyncio.timeout(ASK_WITHIN_SECONDS):
                    # Lower than before if the topic was created anew.
                    self._ends = await self._ask(wanted)
                    return
            except (KafkaError, TimeoutError) as error:
                log.warning("cannot read where %s ends, trying again: %r", self.topic, error)
            await self.close()
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Close the connection; `refresh` connects again."""
        asker, self._asker = self._asker, None
        if asker is not None:
            await asker.stop()

    async def _ask(self, wanted: set[int]) -> dict[int, int]:
        if self._asker is None:
            self._asker = consumer(self._settings)
            await start(self._asker)
        client = self._asker._client
        known = set(await client._wait_on_metadata(self.topic))
        if wanted - known:
            await client.force_metadata_update()
            known = set(await client._wait_on_metadata(self.topic))
        ends = await self._asker.end_offsets([TopicPartition(self.topic, number) for number in known])
        return {tp.partition: end for tp, end in ends.items()}


class WithinTheLog(Generic[T]):
    """Passes items on, in order, without those that include more of the topic than exists.

    What an item includes was stored before the item itself. So an item beyond the known ends waits
    for one refresh from Kafka, and the items behind it wait, too.
    """

    def __init__(
        self,
        ends: LogEnds,
        included_by: Callable[[T], Mapping[int, int]],
        on_item: Callable[[T], None],
        on_beyond: Callable[[T], None],
    ) -> None:
        """`included_by`: by partition, the last offset that an item includes."""
        self._ends = ends
        self._included_by = included_by
        self._on_item, self._on_beyond = on_item, on_beyond
        self._waiting: deque[T] = deque(maxlen=MAX_WAITING)
        self._woken, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()

    def offer(self, item: T) -> None:
        """Pass an item on, at once if it is within the known ends."""
        if not self._waiting and self._ends.hold(self._included_by(item)):
            self._on_item(item)
            return
        self._waiting.append(item)
        self._settled.clear()
        self._woken.set()

    async def run(self) -> None:
        """Refresh the ends while items wait, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            # Items that arrive during the request may include more than its answer.
            asked = list(self._waiting)
            await self._ends.refresh({partition for item in asked for partition in self._included_by(item)})
            for item in asked:
                # Unless so many arrived meanwhile that it was dropped.
                if self._waiting and self._waiting[0] is item:
                    self._waiting.popleft()
                    held = self._ends.hold(self._included_by(item))
                    (self._on_item if held else self._on_beyond)(item)
            if self._waiting:
                self._woken.set()
            else:
                self._settled.set()
            await asyncio.sleep(BETWEEN_QUESTIONS_SECONDS)

    async def settled(self) -> None:
        """Return once nothing waits. Raises KafkaTimeoutError if Kafka does not answer in time."""
        try:
            await asyncio.wait_for(self._settled.wait(), CATCH_UP_WITHIN_SECONDS)
        except TimeoutError:
            raise KafkaTimeoutError(f"Kafka did not say where {self._ends.topic} ends") from None


class FollowedWithinTheLog(Generic[T]):
    """Follows a compacted topic, without records that include more of another topic than exists. On
    one loop.
    """

    def __init__(self, reader: CompactedTopics, ends: LogEnds, within: WithinTheLog[T]) -> None:
        """`reader` passes records to `within`, which uses `ends`."""
        self._reader, self._ends, self._within = reader, ends, within
        self.caught_up = asyncio.Event()
        """Set once everything that existed at the start has been passed on or refused."""

    async def run(self) -> None:
        """Read until cancelled; an unreachable broker is tried again every second."""
        try:
            # Then signals that exist at the start need not wait.
            await self._ends.refresh()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reader.run())
                tasks.create_task(self._within.run())
                tasks.create_task(self.wait_caught_up())
        finally:
            await self._ends.close()

    async def catch_up(self) -> None:
        """Return once everything that the brokers have stored by now has been passed on or refused.

        Raises:
            KafkaError, ReaderEnded: as `CompactedTopics.catch_up`.
        """
        await self._reader.catch_up()
        await self._within.settled()

    async def wait_caught_up(self) -> None:
        """Return once `caught_up` is set. Raises ReaderEnded as `CompactedTopics.wait_caught_up`."""
        await self._reader.wait_caught_up()
        await self._within.settled()
        self.caught_up.set()
