"""The edge to Kafka: read, plan, commit the plan, insert, repeat. Always in this order.

    1. poll      records of our partitions, as long as there is room for them
    2. plan      once a record has waited `linger`, or a batch is full: one range per partition
    3. commit    finished and planned offsets, in one request
    4. insert    each plan under its token; unreadable records become dead letters first

A crash after 3 or 4 leaves a plan in Kafka that the next worker repeats exactly (plan.py). A
rebalance is like a crash: work in progress is dropped, and the next owner of the partition
finds the plan.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from spendmeter.contract.topics import COMPACTED, Topic
from spendmeter.kafka.client import consumer
from spendmeter.kafka.groups import SINK_GROUP, committed_by
from spendmeter.runtime.metrics import READY
from spendmeter.runtime.process import pause, run_until
from spendmeter.topics.check import check_topics
from spendmeter.topics.state import WATCH_EVERY_SECONDS, Said, TopicState, changes, until_changed
from spendmeter_sinks.clickhouse.assignment import IDLE_POLL_SECONDS, Assignment
from spendmeter_sinks.clickhouse.batch import Bounds, PartitionBatches
from spendmeter_sinks.clickhouse.gc import SinkCollector
from spendmeter_sinks.clickhouse.insert_pipeline import Abandoned, InsertPipeline
from spendmeter_sinks.clickhouse.metrics import (
    GONE,
    LAG,
    LAG_SECONDS,
    OLDEST_WAITING,
    RECOVERED,
    RESTORED,
)
from spendmeter_sinks.clickhouse.plan import CommitNote, is_of_before_incarnations, read_commit_note
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import TABLES
from spendmeter_sinks.history.incarnations import Lineage, UnknownIncarnation, UsageIncarnation

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MAX_RECORDS_PER_POLL = 20_000
REBALANCE_TIMEOUT_MS = 30_000
FINISH_WITHIN_SECONDS = 10.0
LEAVE_WITHIN_SECONDS = 5.0
END_WITHIN_SECONDS = 1.0


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]
    """One worker of the group."""

    def __init__(self, settings: SinkSettings, history: InsertPipeline) -> None:
        self._settings = settings
        self._history = history
        self._tables = {settings.topic(table.topic): table for table in TABLES}
        self._bounds = Bounds(settings.sink_max_batch_rows, settings.sink_max_batch_bytes)
        self._assignment: Assignment | None = None
        self._assigned = asyncio.Event()
        self._collector = SinkCollector()
        self._consumer: AIOKafkaConsumer
        """For the present topics; `_follow_topics` creates it."""
        self._topics: dict[str, TopicState] = {}
        """Their state when this worker joined."""
        self._changed = asyncio.Event()
        """Set when one of them has changed: then everything begins again."""
        self.lineage: Lineage | None = None
        """The lineage that rows of usage belong to; None until it is settled."""
        self._has_seen_the_rest = False
        self._has_compared = False
        """Whether commits were compared with history since this worker joined."""
        self._said = Said(log)

        # Computed when the metrics page is read: they must rise while an insert is blocked.
        OLDEST_WAITING.set_function(self._waited_seconds)
        for topic in self._tables:
            LAG_SECONDS.labels(topic).set_function(partial(self._lag_seconds, topic))

    def _new_consumer(self) -> AIOKafkaConsumer:
        return consumer(
            self._settings,
            group=SINK_GROUP,
            group_instance_id=self._settings.sink_instance,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
        )

    def _waited_seconds(self) -> float:
        ours = self._assignment
        since = None if ours is None else ours.waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def _lag_seconds(self, topic: str) -> float:
        ours = self._assignment
        queues = [] if ours is None else list(ours.queues.items())
        found = [queue.oldest_ms for partition, queue in queues if partition.topic == topic]
        oldest_ms = min((one for one in found if one is not None), default=None)
        return 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1_000)

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """The partitions of this worker."""
        return frozenset() if self._assignment is None else self._assignment.partitions

    @property
    def owns_the_first(self) -> bool:
        """Whether this worker has the first partition of usage, and knows where it continues: true for at
        most one worker.
        """
        ours = self._assignment
        first = TopicPartition(self._settings.topic(Topic.USAGE), 0)
        return ours is not None and ours.is_inherited and first in ours.partitions

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if self._assignment is not None:
            self._assignment.over.set()
        self._assignment = None
        self._assigned.clear()
        READY.set(0)

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        if self._changed.is_set():
            return
        # aiokafka would only log an exception here, so `run` does the work.
        self._assignment = Assignment(
            frozenset(assigned), self._settings.sink_linger_ms / 1000, self._settings.sink_max_buffered_bytes
        )
        self._assigned.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then commit everything that is in history and leave the group.

        Raises:
            PartialInsert, NotMigrated: see writer.py.
            OwnedByAnother: see owner.py.
        """
        work = asyncio.create_task(self._follow(stop))
        # If an outage blocks it, it is cancelled: that is no worse than a crash.
        await run_until(stop, work, finish_within_seconds=FINISH_WITHIN_SECONDS)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _follow(self, stop: asyncio.Event) -> None:
        try:
            await self._history.start()
            while not stop.is_set():
                await self._settle_topics(stop)
                if not stop.is_set():
                    await self._follow_topics(stop)
        finally:
            READY.set(0)
            await self._history.stop()

    async def _settle_topics(self, stop: asyncio.Event) -> None:
        """Return once the meaning of the topics' offsets is settled; until then nothing is stored."""
        self._changed.clear()
        self.lineage = None
        while not stop.is_set():
            try:
                checked = await check_topics(
                    self._settings, [table.topic for table in TABLES], whatever_partitions=True
                )
                for warning in checked.warnings:
                    log.warning("%s", warning)
                states = checked.states
                if not checked.fatal:
                    name = self._settings.topic(Topic.USAGE)
                    of = UsageIncarnation(name, states[name].incarnation)
                    self.lineage = await self._history.lineage(of, await self._goes_on(states[name]))
                    self._topics = states
                    return
                self._said.say(f"not ready, nothing is stored: {checked.fatal}")
            except UnknownIncarnation as unknown:
                self._said.say(str(unknown))
            except KafkaError as error:
                log.warning("cannot reach Kafka, trying again: %r", error)
            await pause(stop, WATCH_EVERY_SECONDS)

    async def _goes_on(self, usage: TopicState) -> bool:
        """Whether a version without incarnations has read this very topic."""
        name = self._settings.topic(Topic.USAGE)
        partitions = [TopicPartition(name, p) for p in range(usage.partitions)]
        return is_of_before_incarnations(
            (await committed_by(self._settings, SINK_GROUP, partitions)).values()
        )

    async def _follow_topics(self, stop: asyncio.Event) -> None:
        """Work until `stop`, or until a topic is not what it was."""
        watch = asyncio.create_task(self._watch())
        self._consumer = self._new_consumer()
        self._has_seen_the_rest = self._has_compared = False
        try:
            self._consumer.subscribe(list(self._tables), listener=self)
            await self._start()
            while not (stop.is_set() or self._changed.is_set()):
                # Bounded, so that `stop` is checked.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._assigned.wait(), IDLE_POLL_SECONDS)
                if self._assignment is not None:
                    await self._work(self._assignment, stop)
        finally:
            READY.set(0)
            watch.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), LEAVE_WITHIN_SECONDS)
            self.on_partitions_revoked(set())

    async def _watch(self) -> None:
        now = await until_changed(self._settings, self._topics, self._topics)
        self._said.say(f"{'; '.join(changes(self._topics, now))}. Starting again with the present topics")
        self._changed.set()
        self.on_partitions_revoked(set())

    async def _start(self) -> None:
        while True:
            try:
                await self._consumer.start()
                return
            except KafkaError as error:
                log.warning("cannot reach Kafka, trying again: %r", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _work(self, ours: Assignment, stop: asyncio.Event) -> None:
        try:
            await self._inherit(ours)
            await self._join_for_the_rest(ours)
            READY.set(1)
            log.info("working on %d partitions", len(ours.partitions))
            while True:
                await self._poll(ours, timeout_seconds=0.0)
                if ours.is_time(_now()):
                    await self._insert_batches(ours)
                    continue
                await self._commit(ours)
                if stop.is_set():
                    return
                await self._poll(ours, timeout_seconds=ours.patience(_now()))
        except Abandoned:
            log.info("partitions were revoked; their new owner repeats the work in progress")
        except (CommitFailedError, IllegalStateError) as error:
            # The group has moved on without us; aiokafka rejoins and then assigns partitions to us.
            log.warning("the group has moved on: %s", error)
            await ours.over.wait()

    async def _join_for_the_rest(self, ours: Assignment) -> None:
        """Make the group rebalance once if nobody reads some partition.

        A static member gets back what it had, even if there are more partitions by now.
        """
        if self._has_seen_the_rest or self._settings.sink_instance is None:
            return
        self._has_seen_the_rest = True
        every = {
            TopicPartition(name, p) for name, state in self._topics.items() for p in range(state.partitions)
        }
        rest = every - ours.partitions
        if rest - (await self._committed(ours, rest)).keys():
            self._consumer._coordinator.request_rejoin()

    async def _inherit(self, ours: Assignment) -> None:
        """Start each partition at its committed offset, with its committed plan."""
        committed = await self._committed(ours, ours.partitions)
        for partition in ours.partitions:
            offset, metadata = committed.get(partition, (None, ""))
            incarnation = self._topics[partition.topic].incarnation
            note = read_commit_note(offset or 0, metadata)
            if note.incarnation not in ("", incarnation):
                log.warning("%s:%d: offset %s belongs to a deleted topic, and is ignored", *partition, offset)
                offset, note = None, CommitNote()
            if not self._has_compared:
                offset, note = await self._as_history_has_it(ours, partition, offset, note)
            if note.plan is not None:
                RECOVERED.inc()
                log.info("repeating %s", note.plan.token(*partition))
            if offset is not None:
                ours.committed[partition] = (offset, metadata)
                if not self._has_compared:
                    ours.to_compare.add(partition)
            ours.queues[partition] = self._queue(partition, offset, note)
        # In aiokafka a poll may outlast a rebalance and then return the first records of the next assignment.
        # But the poll belongs to the previous assignment, which drops them.
        new = [partition for partition in ours.partitions if partition not in ours.committed]
        for partition, (offset, _) in ours.committed.items():
            self._consumer.seek(partition, offset)
        if new:
            await self._consumer.seek_to_beginning(*new)
        await self._say_what_is_gone(ours)
        # Kafka must not report offsets as stored that history has lost.
        await self._commit(ours)
        # Another worker has compared, and kept up to date, the partitions of a later rebalance.
        self._has_compared = ours.is_inherited = True

    def _queue(self, partition: TopicPartition, offset: int | None, note: CommitNote) -> PartitionBatches:
        incarnation = self._topics[partition.topic].incarnation
        return PartitionBatches(self._bounds, offset, note.plan, incarnation, note.stored_last, note.reread)

    async def _compare_what_was_repeated(self, ours: Assignment) -> None:
        """Check that history has the rows that were inserted again under an earlier token.

        After a restore to an earlier state ClickHouse may still know that token and drop the insert.
        """
        for partition in sorted(ours.to_compare):
            queue = ours.queues[partition]
            if queue.plan is not None:
                continue
            ours.to_compare.discard(partition)
            note = queue.note()
            offset, now = await self._as_history_has_it(ours, partition, queue.position, note)
            if now != note:
                ours.queues[partition] = self._queue(partition, offset, now)
                self._consumer.seek(partition, offset)

    async def _as_history_has_it(
        self, ours: Assignment, partition: TopicPartition, offset: int | None, note: CommitNote
    ) -> tuple[int | None, CommitNote]:
        """Where to continue, and with which plan: before the committed offset if history has lost rows."""
        if offset is None or note.stored_last is None:
            return offset, note
        table, incarnation = self._tables[partition.topic], self._topics[partition.topic].incarnation
        reached = await self._history.reached(table, partition, incarnation, ours.over)
        if reached > note.stored_last:
            return offset, note
        log.warning(
            "%s:%d: history ends at offset %d, but had rows up to %d: it was restored to an earlier state,"
            " or those were repeats. Reading again from there; until then no opening balance is added up",
            *partition,
            reached - 1,
            note.stored_last,
        )
        RESTORED.inc()
        lasting = reached - 1 if reached else None
        return min(reached, offset), CommitNote(note.incarnation, None, lasting, note.reread + 1)

    async def _say_what_is_gone(self, ours: Assignment) -> None:
        """Log it, because aiokafka silently continues at the first record that the log still has."""
        for partition, begin in (await self._begins(ours, *ours.partitions)).items():
            expected = ours.queues[partition].position or 0
            table = self._tables[partition.topic]
            if begin > expected and table.topic not in COMPACTED:
                # History may have it all the same: the group's offsets expire, and a commit can be lost.
                incarnation = self._topics[partition.topic].incarnation
                reached = await self._history.reached(table, partition, incarnation, ours.over)
                self._note_gone(partition, max(expected, reached), begin)

    async def _begins(self, ours: Assignment, *partitions: TopicPartition) -> dict[TopicPartition, int]:
        """The first offset that each log has."""
        while not ours.over.is_set():
            try:
                begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets(partitions)
                return begins
            except KafkaError as error:
                log.warning("cannot read where our partitions begin, trying again: %r", error)
            await asyncio.sleep(RETRY_SECONDS)
        raise Abandoned

    def _note_gone(self, partition: TopicPartition, expected: int, begin: int) -> None:
        if begin <= expected:
            return
        GONE.labels(partition.topic).inc(begin - expected)
        log.error(
            "%s:%d begins at %d: the %d records from %d on were deleted by retention before history had them",
            *partition,
            begin,
            begin - expected,
            expected,
        )

    async def _committed(
        self, ours: Assignment, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, str]]:
        while not ours.over.is_set():
            try:
                # The consumer itself gives offsets without their metadata.
                found = await committed_by(self._settings, SINK_GROUP, partitions) if partitions else {}
                return {p: (o.offset, o.metadata) for p, o in found.items()}
            except KafkaError as error:
                log.warning("cannot read the group's offsets, trying again: %r", error)
            await asyncio.sleep(RETRY_SECONDS)
        raise Abandoned

    async def _poll(self, ours: Assignment, timeout_seconds: float) -> None:
        """Read what Kafka has, for the partitions that still have room."""
        if ours.over.is_set():
            raise Abandoned
        wanted = ours.with_room()
        if not wanted:
            return
        batches = await self._consumer.getmany(
            *wanted, timeout_ms=round(timeout_seconds * 1000), max_records=MAX_RECORDS_PER_POLL
        )
        if ours.over.is_set():
            raise Abandoned
        for partition, records in batches.items():
            await self._check_hole(ours, partition, records[0].offset)
            ours.add(partition, records, records[-1].offset + 1, _now())
        await self._pass_over_holes(ours)
        await self._follow_holes(ours)
        self._measure(ours)

    async def _pass_over_holes(self, ours: Assignment) -> None:
        """Move to the position, though no record is there. If the log ends with a transaction marker, or with
        nothing at all, a program that waits for history to reach its end would otherwise wait for ever.
        """
        for partition, queue in ours.queues.items():
            position = self._position(partition)
            if position is not None and position != queue.next_offset and not len(queue):
                await self._check_hole(ours, partition, position)
                queue.pass_over(position)

    async def _check_hole(self, ours: Assignment, partition: TopicPartition, first: int) -> None:
        """Log a hole that retention made. A compacted topic has holes anyway."""
        expected = ours.queues[partition].next_offset
        if expected is None or first <= expected or self._tables[partition.topic].topic in COMPACTED:
            return
        begins = await self._begins(ours, partition)
        if ours.over.is_set():
            raise Abandoned
        self._note_gone(partition, expected, min(first, begins[partition]))

    def _position(self, partition: TopicPartition) -> int | None:
        """The position; None while the client queries the broker, for which `position` would wait."""
        subscribed = self._consumer._subscription.subscription
        assignment = subscribed.assignment if subscribed is not None else None
        state = assignment.state_value(partition) if assignment is not None else None
        if state is None or not state.has_valid_position:
            return None
        position: int = state.position
        return position

    async def _follow_holes(self, ours: Assignment) -> None:
        """Handle an inherited plan that ends in records that compaction or retention deleted meanwhile."""
        for partition, queue in ours.queues.items():
            if queue.plan is None or queue.is_complete:
                continue
            position = await self._consumer.position(partition)
            ours.add(partition, (), position, _now())
            end = self._consumer.highwater(partition)
            if end is not None and end <= queue.plan.last and position >= end:
                end = await self._end(partition)
            if end is not None and end <= queue.plan.last and position >= end:
                log.error(
                    "%s:%d ends at %d, before the planned %d: Kafka has lost records that were acknowledged",
                    *partition,
                    end,
                    queue.plan.last,
                )
                queue.forget_plan()

    async def _end(self, partition: TopicPartition) -> int | None:
        """Where the log ends, according to its leader; None if the leader does not know yet.

        The end in a fetch response is not reliable: a new leader starts with the previous leader's last known
        end, and for a while claims that acknowledged records do not exist yet.
        """
        try:
            async with asyncio.timeout(END_WITHIN_SECONDS):
                end: int = (await self._consumer.end_offsets([partition]))[partition]
                return end
        except (KafkaError, TimeoutError) as error:
            log.warning("cannot read where %s:%d ends, going on: %r", *partition, error)
            return None

    async def _insert_batches(self, ours: Assignment) -> None:
        planned = [partition for partition, queue in ours.queues.items() if queue.cut() is not None]
        await self._commit(ours)
        await asyncio.gather(
            *(self._history.insert(self._tables[p.topic], p, ours.queues[p], ours.over) for p in planned)
        )
        await self._compare_what_was_repeated(ours)
        ours.settle()
        self._collector.between_inserts()

    async def _commit(self, ours: Assignment) -> None:
        """Commit finished and planned offsets. Nothing is sent if nothing has changed."""
        changed = ours.to_commit()
        if not changed:
            return
        offsets = {p: OffsetAndMetadata(*c) for p, c in changed.items()}
        while True:
            if ours.over.is_set():
                raise Abandoned
            try:
                await self._consumer.commit(offsets)
                break
            except CommitFailedError:
                raise
            except KafkaError as error:
                log.warning("cannot commit, trying again: %r", error)
                await asyncio.sleep(RETRY_SECONDS)
        ours.committed.update(changed)

    def _measure(self, ours: Assignment) -> None:
        for partition, queue in ours.queues.items():
            end = self._consumer.highwater(partition)
            if end is not None and queue.position is not None:
                LAG.labels(*partition).set(max(0, end - queue.position))


def _now() -> float:
    return time.monotonic()
