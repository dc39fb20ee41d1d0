"""A compacted topic held in memory: read whole at the start, then followed for ever."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord

from spendmeter.kafka.client import consumer, start
from spendmeter.settings import Settings

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
POLL_MS = 1_000
QUIET_FETCH_MS = 500
"""How long the broker holds a fetch without new records; it answers new records at once. A smaller value
costs
each gateway more fetches; a larger one delays the detection of a broker that is gone."""
MAX_RECORDS_PER_POLL = 5_000
RECORDS_PER_BREATH = 50
CATCH_UP_WITHIN_SECONDS = 30.0
TOPIC_WITHIN_SECONDS = 10.0


class ReaderEnded(RuntimeError):
    """A reader has ended with an error, so waiting for it would be in vain."""


class _Answer(NamedTuple):
    answered_ms: int
    """Wall clock, so use it only to distinguish one answer from the next."""
    noticed: float


class CompactedTopics:
    """Passes every record of some compacted topics to `on_record`, oldest first, then the new ones.

    Each process reads all partitions (there is no group), from the beginning at every start. The
    callback runs on the event loop; an exception in it ends the reading (a bug must stop us).
    """

    def __init__(
        self, settings: Settings, topics: list[str], on_record: Callable[[ConsumerRecord], None]
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._on_record = on_record
        self._consumer: AIOKafkaConsumer | None = None
        # End offsets are requested on a separate connection: on the other one the request would wait
        # behind a fetch that the broker holds.
        self._asker: AIOKafkaConsumer | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._progress = asyncio.Condition()
        self.caught_up = asyncio.Event()
        """Set once everything that existed at the start has been read."""
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()
        self._error: Exception | None = None
        self._answers: dict[TopicPartition, _Answer] = {}

    @property
    def last_answer(self) -> float | None:
        """Loop time at which every partition's leader had answered; since then we may be blind.

        None before the first answer. It is at most POLL_MS late.
        """
        return min((answer.noticed for answer in self._answers.values()), default=None)

    async def run(self) -> None:
        """Read until cancelled; an unreachable broker is tried again every second."""
        try:
            await self._run()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._ended.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                log.warning("cannot read %s, trying again: %r", ", ".join(self._topics), error)
            finally:
                await self._close()
            await asyncio.sleep(RETRY_SECONDS)

    async def read_to_end(self) -> None:
        """Read the present records and stop. For a command that reads once.

        Raises:
            KafkaError: the broker cannot be reached.
        """
        try:
            await self._open()
            await self._read_until(await self._ends())
        finally:
            await self._close()

    async def catch_up(self) -> None:
        """Return once everything that the brokers have stored by now has been passed to `on_record`.

        `run` must be running; a broken connection is tolerated for CATCH_UP_WITHIN_SECONDS.

        Raises:
            KafkaError: the end offsets did not arrive in time, or were not reached in time.
            ReaderEnded: `run` has ended, or ends meanwhile.
        """
        try:
            async with asyncio.timeout(CATCH_UP_WITHIN_SECONDS):
                await self._unless_ended(self._catch_up())
        except TimeoutError:
            raise KafkaTimeoutError(
                f"{', '.join(self._topics)} not read to the end in {CATCH_UP_WITHIN_SECONDS:g} s"
            ) from None

    async def wait_caught_up(self) -> None:
        """Return once everything that existed at the start has been read.

        Raises:
            ReaderEnded: see `catch_up`.
        """
        await self._unless_ended(self._wait_caught_up())

    async def _wait_caught_up(self) -> None:
        await self.caught_up.wait()

    async def _catch_up(self) -> None:
        await self.caught_up.wait()
        await self._opened.wait()
        ends = await self._ends()
        async with self._progress:
            await self._progress.wait_for(lambda: self._reached(ends))

    async def _unless_ended(self, work: Coroutine[Any, Any, None]) -> None:
        done, ended = asyncio.ensure_future(work), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((done, ended), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise ReaderEnded(f"the reader of {', '.join(self._topics)} has ended: {self._error!r}")
            done.result()
        finally:
            done.cancel()
            ended.cancel()

    async def _follow(self) -> None:
        await self._open()
        await self._read_until(await self._ends())
        self.caught_up.set()
        while True:
            await self._poll()

    async def _open(self) -> None:
        self._consumer = consumer(self._settings, fetch_max_wait_ms=QUIET_FETCH_MS)
        self._asker = consumer(self._settings)
        await start(self._consumer)
        await start(self._asker)
        partitions: list[TopicPartition] = []
        for topic in self._topics:
            try:
                async with asyncio.timeout(TOPIC_WITHIN_SECONDS):
                    numbers = await self._consumer._client._wait_on_metadata(topic)
            except TimeoutError:
                raise UnknownTopicOrPartitionError(
                    f"there is no topic {topic}; create it with `spendmeter topics`"
                ) from None
            partitions += [TopicPartition(topic, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        for partition in partitions:
            # After a lost connection, continue from the same position.
            if partition in self._positions:
                self._consumer.seek(partition, self._positions[partition])
        if not self._positions:
            await self._consumer.seek_to_beginning()
        self._opened.set()

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
        batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS_PER_POLL)
        self._note_answers(self._consumer)
        for partition, records in batches.items():
            for first in range(0, len(records), RECORDS_PER_BREATH):
                for record in records[first : first + RECORDS_PER_BREATH]:
                    self._on_record(record)
                # Yielding to the loop releases the interpreter. Otherwise another thread, such as one that
                # serves requests, would wait 5 ms until Python forces the switch.
                await asyncio.sleep(0)
            # Compaction and aborted batches leave holes, so use the position instead of counting.
            self._positions[partition] = await self._consumer.position(partition)
        if batches:
            async with self._progress:
                self._progress.notify_all()

    def _note_answers(self, kafka: AIOKafkaConsumer) -> None:
        # An empty poll proves nothing: aiokafka also returns from it while it cannot
        # reach a dead broker. The time of each partition's last fetch response is proof.
        now = asyncio.get_running_loop().time()
        for partition in kafka.assignment():
            answered_ms = kafka.last_poll_timestamp(partition)
            known = self._answers.get(partition)
            if answered_ms is not None and (known is None or known.answered_ms != answered_ms):
                self._answers[partition] = _Answer(answered_ms, now)

    async def _close(self) -> None:
        self._opened.clear()
        opened, self._consumer, self._asker = (self._consumer, self._asker), None, None
        for one in opened:
            if one is not None:
                await one.stop()
