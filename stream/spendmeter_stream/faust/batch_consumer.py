"""Faust, but one function gets whole fetched batches instead of streams getting messages.

Faust keeps what it does well: the group, the assignment of co-partitioned topics, tables with
their changelogs and standbys, the worker's life cycle. We replace its work per message (four asyncio tasks,
an acknowledgement that also covers failures, commits that may pass records in flight). Instead we process
what was fetched, wait until all results are stored, and only then commit the offsets.
So stock Faust's ways of losing an update cannot occur: docs/decisions/0001.

We replace one method, `Consumer._drain_messages` of faust-streaming 0.15.3; therefore
that version is pinned.
"""

import asyncio
import gc
import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from spendmeter.kafka.fetch import FetchedRecord, fetch_cheaply
from spendmeter.runtime.process import stop_at_once
from spendmeter_stream.metrics import StreamLag
from spendmeter_stream.processor import Halted, Processor

log = logging.getLogger(__name__)

YOUNG_EVERY_SECONDS = 1.0


class StreamCollector:
    """Collects between rounds, when what they needed is gone already without it.

    By itself the collector comes after 700 allocations, in the middle of batches that are anything but
    garbage, and now and then goes through every account: a third of the processor time, and stalls that grow
    with the state.
    """

    def __init__(self) -> None:
        self._collected_at = monotonic()

    def take_over(self) -> None:
        """From now on only the calls below collect."""
        gc.disable()

    def between_rounds(self) -> None:
        """Traverse what was allocated since the last call; the cost does not depend on the accounts."""
        if monotonic() - self._collected_at >= YOUNG_EVERY_SECONDS:
            self._collected_at = monotonic()
            gc.collect(1)

    def between_assignments(self) -> None:
        """Traverse everything, just after the accounts were dropped."""
        gc.collect()


POLL_SECONDS = 0.25
"""How long a fetch may wait for records; also how often the processor can do its timed work."""
FRESH_SECONDS = 0.002
"""How long a non-empty fetch waits for records that arrived meanwhile."""
BUSY_RECORDS = 5
"""After a batch of this size, more records are likely to be ready."""
BACKLOG_RECORDS = 5_000
"""A fetch of this size is part of a backlog: a larger round then writes each account less often."""
BACKLOG_SECONDS = 0.05
"""How long to wait, in a backlog, for the next fetch."""
ROUND_RECORDS = 40_000
"""A round fetches no more once it has this many. This bounds memory."""
ROUND_SECONDS = 1.0
"""A round fetches no more than the worker, at its last speed, can do in this time: it must not seem dead."""
CHECK_EVERY_SECONDS = 1.0
"""How often an idle consumer checks whether its position has moved past the last record."""


class BatchConsumerThread(AIOKafkaConsumerThread):
    async def on_start(self) -> None:
        await super().on_start()
        # Faust fixes this at 1500 ms. A fetch of quiet partitions then delays the busy ones
        # of the same broker by as long.
        self._consumer._fetcher._fetch_max_wait_ms = self.app.settings.fetch_max_wait_ms


class BatchConsumer(Consumer):
    """Faust's consumer with our own drain, and commits that follow it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fetch_cheaply()
        self._processor: Processor = self.app.processor
        self._done: dict[TP, int] = {}
        self._lag = StreamLag()
        self._collector = StreamCollector()
        self._collector.take_over()
        self._is_busy = False
        self._at_once = BACKLOG_RECORDS
        self._round = (-1, monotonic())
        self._committed_at = monotonic()
        self._checked_at = monotonic()
        self._reached: dict[TP, int] = {}
        """The offset after everything that was processed, or passed without a record."""
        self._committing: asyncio.Future[Any] = asyncio.get_event_loop().create_future()
        self._committing.set_result(True)
        # Held during a batch: a rebalance waits for its end, and none begins meanwhile.
        self._batch = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._drain_once()
                self._collector.between_rounds()
        except asyncio.CancelledError:
            raise
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                stop_at_once("the Kafka consumer was stopped under us")
        except BaseException:
            log.exception("processing failed; the worker stops, and restarts from what is stored")
            stop_at_once("processing failed")

    async def _drain_once(self) -> None:
        if self._processor.is_halted:
            # Stay in the group: whoever got the partitions would halt, too.
            await self._processor.wait_halted()
            return
        generation = self.app.consumer_generation_id
        alive_at = self._begin_round(generation)
        fetched = await self._fetch()
        if fetched is None or self.should_stop or not self.flow_active:
            # A rebalance is under way.
            await self._give_back(fetched or {})
            await asyncio.sleep(0)
            return
        ours: dict[TP, Sequence[FetchedRecord]] = {}
        for partition, records in fetched.items():
            tp = TP(partition.topic, partition.partition)
            if tp.topic in self._processor.source_topics:
                ours[tp] = records
            else:
                await self._hand_to_faust(tp, records)
        async with self._batch:
            # A rebalance may have begun or ended since the fetch.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                await self._give_back(fetched)
                return
            self._note_waiting(ours)
            if ours:
                began = monotonic()
                try:
                    await self._processor.process(ours, alive_at, self)
                except Halted:
                    await self._give_back(ours)
                    return
                per_second = _count(ours) / max(monotonic() - began, 1e-3)
                self._at_once = min(ROUND_RECORDS, int(per_second * ROUND_SECONDS))
                self._note_reached({tp: records[-1].offset + 1 for tp, records in ours.items()})
                for tp, records in ours.items():
                    # What follows, if anything does, is no older; the next fetch says whether it does.
                    self._lag.waits(tp.topic, tp.partition, records[-1].timestamp)
            elif monotonic() - self._checked_at >= CHECK_EVERY_SECONDS:
                self._checked_at = monotonic()
                await self._pass_over_holes()
            await self._processor.idle(alive_at, self)
            if monotonic() - self._committed_at >= self.app.settings.commit_interval_seconds:
                self._commit_later()

    def _note_waiting(self, ours: Mapping[TP, Sequence[FetchedRecord]]) -> None:
        for tp, records in ours.items():
            self._lag.waits(tp.topic, tp.partition, records[0].timestamp)
        if _count(ours) < BACKLOG_RECORDS:
            # Else other partitions may have to wait for these.
            self._lag.nothing_waits(but_in=ours)

    def _note_reached(self, offsets: Mapping[TP, int]) -> None:
        self._reached.update(offsets)
        self._done.update(offsets)

    async def _pass_over_holes(self) -> None:
        """Move past transaction markers and deleted records that no record follows.

        Otherwise a program that waits until the group has read to the end of the log would wait for ever.
        """
        for tp in self.assignment():
            if tp.topic in self._processor.source_topics:
                try:
                    position = await self.position(tp)
                except IllegalStateError:
                    # A rebalance has begun; it waits for this round.
                    return
                if position is not None and position > self._reached.get(tp, 0):
                    await self._processor.passed(tp, position, self)
                    self._note_reached({tp: position})

    def _begin_round(self, generation: int) -> float:
        """When the last round of this generation began. A worker that is frozen for longer than the session
        between then and a write has lost its partitions.
        """
        before, self._round = self._round, (generation, monotonic())
        return before[1] if before[0] == generation else self._round[1]

    async def _fetch(self) -> dict[Any, Sequence[FetchedRecord]] | None:
        """The records that are ready; None during a rebalance."""
        fetched: dict[Any, Sequence[FetchedRecord]] | None
        fetched, _ = await self._wait_next_records(POLL_SECONDS)
        if fetched and self._is_busy:
            # These records were fetched when the previous batch began, and nothing was fetched until now.
            # A second fetch saves a whole round for the records that arrived since then.
            more = _count(fetched)
            if more < BACKLOG_RECORDS:
                await self._fetch_more(fetched, FRESH_SECONDS)
            while more >= BACKLOG_RECORDS and _count(fetched) < self._at_once:
                more = await self._fetch_more(fetched, BACKLOG_SECONDS)
        self._is_busy = _count(fetched or {}) >= BUSY_RECORDS
        return fetched

    async def _fetch_more(self, fetched: dict[Any, Sequence[FetchedRecord]], seconds: float) -> int:
        """Add the records that arrive within that time; returns their number."""
        more, _ = await self._wait_next_records(seconds)
        for partition, records in (more or {}).items():
            fetched[partition] = [*fetched.get(partition, ()), *records]
        return _count(more or {})

    async def _give_back(self, fetched: Mapping[Any, Sequence[FetchedRecord]]) -> None:
        """Fetch these records again. Reading them twice is harmless; dropping them is not.

        Faust only seeks to committed offsets. If nothing was committed yet (aiokafka's
        `seek_to_committed`) it does not seek at all, and the records would be lost.
        """
        for partition, records in fetched.items():
            tp = TP(partition.topic, partition.partition)
            if tp.topic not in self._processor.source_topics or not records:
                continue
            try:
                position = await self.position(tp)
                # Two fetches are not in order if a rebalance fell between them.
                first = min(record.offset for record in records)
                await self.seek_wait({tp: first if position is None else min(first, position)})
            except IllegalStateError:
                log.info("%s[%d] has another owner now", tp.topic, tp.partition)

    async def _hand_to_faust(self, tp: TP, records: Sequence[FetchedRecord]) -> None:
        for record in records:
            if not self.flow_active:
                # Recovery reads the rest again. Passed on after the rebalance, it would follow a hole.
                return
            read = self._read_offset[tp]
            if read is None or record.offset >= read:
                await self.wait_first(self.callback(self._to_message(tp, record)), self.suspend_flow.wait())
                self._read_offset[tp] = record.offset

    def _commit_later(self) -> None:
        """Commit finished work during the next batch; one commit at a time."""
        if self._done and self._committing.done():
            done, self._done = self._done, {}
            self._committed_at = monotonic()
            self._committing = asyncio.ensure_future(self._commit(done))

    async def wait_empty(self) -> None:
        """Faust calls this before it gives partitions up, and at the end."""
        async with self._batch:
            await self._committing
            done, self._done = self._done, {}
            if done:
                await self._commit(done)
            self._reached.clear()
            self._lag.clear()
            self._processor.forget()
            self._collector.between_assignments()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust would check for stream events, and our drain makes none."""


class BatchTransport(Transport):
    Consumer = BatchConsumer


def _count(batches: Mapping[Any, Sequence[FetchedRecord]]) -> int:
    return sum(map(len, batches.values()))
