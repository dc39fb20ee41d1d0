"""A compacted topic held in memory: read whole at the start, then followed for ever."""

import asyncio
import logging
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from spendmeter.runtime.kafka import consumer
from spendmeter.runtime.settings import Settings

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_RECORDS_PER_POLL = 5_000


class CompactedTopics:
    """Feeds every record of some compacted topics to `on_record`, oldest first, then the new ones.

    Each process reads all partitions (there is no group), from the beginning at every start. The
    callback is called on the event loop; what it raises ends the reading (a bug must stop us).
    """

    def __init__(
        self, settings: Settings, topics: list[str], on_record: Callable[[ConsumerRecord], None]
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._on_record = on_record
        self._consumer: AIOKafkaConsumer | None = None
        # Asks for end offsets on a connection of its own: on the other one the question would wait
        # behind a fetch that the broker holds.
        self._asker: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._progress = asyncio.Condition()
        self.caught_up = asyncio.Event()
        """Set once everything that was there at the start has been read."""
        self.last_poll: float | None = None
        """Loop time of the last answer from the broker: how long we may have been blind."""

    async def run(self) -> None:
        """Read until cancelled; an unreachable broker is tried again every second."""
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                log.warning("cannot read %s, trying again: %r", ", ".join(self._topics), error)
            finally:
                await self._close()
            await asyncio.sleep(RETRY_SECONDS)

    async def read_to_end(self) -> None:
        """Read what is there now and stop. For a command that looks once.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        try:
            await self._open()
            await self._read_until(await self._ends())
        finally:
            await self._close()

    async def catch_up(self) -> None:
        """Return once everything that the brokers have stored by now has been given to `on_record`.

        Needs `run` to be under way. Raises KafkaError when the broker cannot say where the ends are.
        """
        await self.caught_up.wait()
        ends = await self._ends()
        async with self._progress:
            await self._progress.wait_for(lambda: self._reached(ends))

    async def _follow(self) -> None:
        await self._open()
        await self._read_until(await self._ends())
        self.caught_up.set()
        while True:
            await self._poll()

    async def _open(self) -> None:
        self._consumer, self._asker = consumer(self._settings), consumer(self._settings)
        await self._consumer.start()
        await self._asker.start()
        partitions: list[TopicPartition] = []
        for topic in self._topics:
            numbers = await self._consumer._client._wait_on_metadata(topic)
            partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        for partition in partitions:
            # After a lost connection we go on where we were.
            if partition in self._positions:
                self._consumer.seek(partition, self._positions[partition])
        if not self._positions:
            await self._consumer.seek_to_beginning()

    async def _ends(self) -> dict[TopicPartition, int]:
        assert self._consumer is not None, "read before it was opened"
        assert self._asker is not None, "the two are opened together"
        ends: dict[TopicPartition, int] = await self._asker.end_offsets(self._consumer.assignment())
        return ends

    async def _read_until(self, ends: dict[TopicPartition, int]) -> None:
        assert self._consumer is not None
        for partition in ends:
            self._positions[partition] = await self._consumer.position(partition)
        while not self._reached(ends):
            await self._poll()

    def _reached(self, ends: dict[TopicPartition, int]) -> bool:
        return all(self._positions.get(partition, 0) >= end for partition, end in ends.items())

    async def _poll(self) -> None:
        assert self._consumer is not None
        batches = await self._consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS_PER_POLL)
        self.last_poll = asyncio.get_running_loop().time()
        for partition, records in batches.items():
            for record in records:
                self._on_record(record)
            # Compaction and aborted batches leave holes, so the position is asked for, not counted.
            self._positions[partition] = await self._consumer.position(partition)
        if batches:
            async with self._progress:
                self._progress.notify_all()

    async def _close(self) -> None:
        opened, self._consumer, self._asker = (self._consumer, self._asker), None, None
        for one in opened:
            if one is not None:
                await one.stop()
