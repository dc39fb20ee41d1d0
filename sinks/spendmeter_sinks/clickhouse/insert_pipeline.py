"""Brings one planned batch into history: read, set bad records aside, insert, retry until it succeeds."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from spendmeter.contract.dead_letter import Reader, Reason
from spendmeter.contract.records import InvalidRecord, encode_dead_letter
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import AIOKafkaProducer, KafkaError, TopicPartition, producer
from spendmeter.runtime.metrics import READY
from spendmeter.topics.dead_letters import StoredRecord, dead_letter_of
from spendmeter.topics.state import Said
from spendmeter_sinks.clickhouse.batch import PartitionBatches
from spendmeter_sinks.clickhouse.decoding import DecodedBatch, Unreadable
from spendmeter_sinks.clickhouse.metrics import (
    BATCHES,
    DEAD_LETTERS,
    REFUSALS,
    REPEATED_BILLS,
    RETRIES,
    ROWS,
    UNKEPT_DEAD_LETTERS,
)
from spendmeter_sinks.clickhouse.plan import InsertPlan
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import USAGE, USAGE_OBJECTS, Table
from spendmeter_sinks.clickhouse.writer import (
    BatchRefused,
    Unreachable,
    Writer,
    bills_in,
    repeats_in,
    without,
)
from spendmeter_sinks.database.owner import OwnedByAnother
from spendmeter_sinks.history.incarnations import Lineage, UsageIncarnation, lineage_of, settle, whole_topic

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Abandoned(Exception):
    """The partition is no longer ours; its next owner finds the plan."""


class InsertPipeline:
    """ClickHouse and the dead letters, as the consumer sees them."""

    def __init__(self, settings: SinkSettings, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._now = now
        self._signing_keys = settings.read_signing_keys()
        self._writer = Writer(settings)
        self._dead_letters: AIOKafkaProducer = producer(settings)
        self._reading = asyncio.Lock()
        self._threads = asyncio.Semaphore(settings.sink_insert_threads)
        self._down = False

    async def start(self) -> None:
        """Return once ClickHouse answers and has our tables, and Kafka accepts dead letters.

        Raises:
            NotMigrated: ClickHouse answers without them.
        """
        backoff, said = FIRST_BACKOFF_SECONDS, Said(log)
        while True:
            try:
                await asyncio.to_thread(self._writer.check)
                break
            except Unreachable as error:
                log.warning("ClickHouse does not answer, trying again: %s", error)
            except OwnedByAnother as other:
                # A process that ended would only be restarted; the operator may decide to continue there.
                said.say(f"not ready, nothing is stored: {other}")
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
        while True:
            try:
                await self._dead_letters.start()
                return
            except KafkaError as error:
                log.warning("cannot reach Kafka, trying again: %r", error)
            await asyncio.sleep(LONGEST_BACKOFF_SECONDS)

    async def stop(self) -> None:
        await self._dead_letters.stop()
        await asyncio.to_thread(self._writer.close)

    async def lineage(self, of: UsageIncarnation, goes_on: bool) -> Lineage:
        """The lineage of this incarnation of spend.usage; it is recorded if it is beyond doubt.

        Waits for ClickHouse. `goes_on`: see incarnations.settle.

        Raises:
            UnknownIncarnation: history belongs to others, and nobody has decided yet.
        """
        if not of.incarnation:
            return whole_topic(of.topic)
        while True:
            try:
                return await asyncio.to_thread(self._lineage, of, goes_on)
            except Unreachable as error:
                self._mark_down(error)
            await asyncio.sleep(LONGEST_BACKOFF_SECONDS)

    def _lineage(self, of: UsageIncarnation, goes_on: bool) -> Lineage:
        """Blocking."""
        known = self._writer.registered()
        if not any(one.of == of for one in known):
            unnamed = self._writer.unnamed_topics()
            found = settle(of, known, unnamed, goes_on, self._settings.clickhouse_database)
            self._writer.register(found, self._settings.component)
            known = self._writer.registered()
        return lineage_of(of, known)

    async def reached(
        self, table: Table, partition: TopicPartition, incarnation: str, over: asyncio.Event
    ) -> int:
        """The offset after the partition's last record in history; 0 if it has none.

        Raises:
            Abandoned: `over` was set before ClickHouse answered.
        """
        while not over.is_set():
            try:
                return await asyncio.to_thread(
                    self._writer.reached, table, partition.topic, partition.partition, incarnation
                )
            except Unreachable as error:
                self._mark_down(error)
            await asyncio.sleep(FIRST_BACKOFF_SECONDS)
        raise Abandoned

    async def insert(
        self, table: Table, partition: TopicPartition, queue: PartitionBatches, over: asyncio.Event
    ) -> None:
        """Carry out the queue's plan. Afterwards it is finished, or replaced by a smaller one.

        Raises:
            Abandoned: `over` was set before ClickHouse or Kafka answered.
            PartialInsert: see writer.py.
        """
        plan = queue.plan
        assert plan is not None, "nothing is planned"
        records, refused_whole = queue.planned(), False
        try:
            # One at a time: in parallel they would only share the interpreter, and none would be ready early.
            async with self._reading:
                reading = await asyncio.to_thread(table.read, records, self._signing_keys)
                reading.with_incarnation(plan.incarnation)
                bills = bills_in(reading, records) if table is USAGE and reading.rows else []
            if bills:
                reading = await self._without_repeats(partition, records, reading, bills, plan, over)
            if reading.rows:
                await self._insert(table, partition, reading, plan, over)
        except BatchRefused as error:
            REFUSALS.labels(table.name).inc()
            if queue.refuse():
                return
            log.warning("ClickHouse refuses %s: %s", plan.token(*partition), error)
            refused = InvalidRecord(Reason.REFUSED_BY_HISTORY, str(error))
            reading.unreadable, refused_whole = [(records[0], refused)], True
        await self._put_aside(table, reading.unreadable, over)
        queue.finish(_last_stored(table, reading) if not refused_whole else None)

    async def _insert(
        self,
        table: Table,
        partition: TopicPartition,
        reading: DecodedBatch,
        plan: InsertPlan,
        over: asyncio.Event,
    ) -> None:
        """Send the same columns under the same token until ClickHouse has answered."""
        token = plan.token(*partition)
        await self._answered(table, over, self._writer.insert, table, reading.columns, token)
        ROWS.labels(table.name).inc(reading.rows)
        BATCHES.labels(table.name).inc()

    async def _without_repeats(
        self,
        partition: TopicPartition,
        records: Sequence[StoredRecord],
        reading: DecodedBatch,
        bills: Sequence[Sequence[Any]],
        plan: InsertPlan,
        over: asyncio.Event,
    ) -> DecodedBatch:
        """The batch without bills of objects that an earlier record has already billed."""
        # Batches with other bounds write the same rows, so a token is not needed and would not help.
        await self._answered(USAGE_OBJECTS, over, self._writer.insert, USAGE_OBJECTS, bills, "")
        ids = sorted(set(bills[0]))
        repeats = repeats_in(bills, await self._answered(USAGE_OBJECTS, over, self._writer.first_bills, ids))
        if not repeats:
            return reading
        REPEATED_BILLS.inc(len(repeats))
        log.info("%s:%d: %d bills of objects are in history already", *partition, len(repeats))
        kept = await asyncio.to_thread(USAGE.read, without(records, repeats), self._signing_keys)
        kept.with_incarnation(plan.incarnation)
        kept.unreadable = reading.unreadable
        return kept

    async def _answered(
        self, table: Table, over: asyncio.Event, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Repeat a call until ClickHouse answers; returns the answer."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            if over.is_set():
                raise Abandoned
            try:
                async with self._threads:
                    answer = await asyncio.to_thread(call, *args, **kwargs)
            except Unreachable as error:
                self._mark_down(error)
                RETRIES.labels(table.name).inc()
            else:
                self._mark_up()
                return answer
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    async def _put_aside(self, table: Table, unreadable: Sequence[Unreadable], over: asyncio.Event) -> None:
        if table.topic is Topic.DEAD_LETTERS:
            # A dead letter about a dead letter could not be read either, and so on for ever.
            for record, invalid in unreadable:
                UNKEPT_DEAD_LETTERS.inc()
                log.error("dead letter at offset %d cannot be kept, skipped: %s", record.offset, invalid)
            return
        for record, invalid in unreadable:
            DEAD_LETTERS.labels(table.topic.value, invalid.reason.value).inc()
            log.warning("%s:%d:%d put aside: %s", record.topic, record.partition, record.offset, invalid)
            await self._send_dead_letter(record, invalid, over)

    async def _send_dead_letter(
        self, record: StoredRecord, invalid: InvalidRecord, over: asyncio.Event
    ) -> None:
        letter = encode_dead_letter(
            dead_letter_of(record, invalid, self._settings.component, Reader.HISTORY, self._now())
        )
        topic = self._settings.topic(Topic.DEAD_LETTERS)
        while True:
            if over.is_set():
                raise Abandoned
            try:
                await self._dead_letters.send_and_wait(
                    topic, key=letter.key, value=letter.value, headers=letter.headers
                )
                return
            except KafkaError as error:
                log.warning("cannot send a dead letter, trying again: %r", error)
            await asyncio.sleep(LONGEST_BACKOFF_SECONDS)

    def _mark_down(self, error: Unreachable) -> None:
        READY.set(0)
        if not self._down:
            log.warning("ClickHouse does not accept inserts; they are repeated until it does: %s", error)
        self._down = True

    def _mark_up(self) -> None:
        if self._down:
            log.info("ClickHouse accepts inserts again")
            READY.set(1)
        self._down = False


def _last_stored(table: Table, reading: DecodedBatch) -> int | None:
    """The highest offset of the rows; None where there are none."""
    return int(max(reading.columns[list(table.columns).index("offset")])) if reading.rows else None
