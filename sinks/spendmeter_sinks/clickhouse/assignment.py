"""The state of one worker between two rebalances, and when to insert. No I/O, no clock."""

import asyncio
from collections.abc import Sequence

from spendmeter.kafka.client import TopicPartition
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.batch import PartitionBatches

IDLE_POLL_SECONDS = 0.5

Committed = tuple[int, str]
"""A committed offset and its metadata."""


class Assignment:
    """The partitions of this worker until the next rebalance. Times are seconds of a monotonic clock."""

    def __init__(
        self, partitions: frozenset[TopicPartition], linger_seconds: float, max_buffered_bytes: int
    ) -> None:
        self.partitions = partitions
        self.queues: dict[TopicPartition, PartitionBatches] = {}
        self.committed: dict[TopicPartition, Committed] = {}
        self.waiting_since: float | None = None
        """When the oldest record without a plan was read."""
        self.is_inherited = False
        """Whether the worker knows, and has committed, where each partition continues."""
        self.to_compare: set[TopicPartition] = set()
        """Partitions with a plan from before history was restored: once repeated, history must have its rows.
        """
        self.over = asyncio.Event()
        """Set when the assignment is revoked: its work in progress is dropped."""
        self._linger_seconds = linger_seconds
        self._max_buffered_bytes = max_buffered_bytes

    def with_room(self) -> list[TopicPartition]:
        """The partitions to read. An inherited plan is always read to its end: nothing else frees space."""
        room = sum(queue.bytes for queue in self.queues.values()) < self._max_buffered_bytes
        return [
            partition
            for partition, queue in self.queues.items()
            if not queue.is_full and (room or queue.plan is not None)
        ]

    def add(
        self, partition: TopicPartition, records: Sequence[StoredRecord], next_offset: int, now: float
    ) -> None:
        self.queues[partition].add(records, next_offset)
        if self.waiting_since is None:
            self.waiting_since = now

    def is_time(self, now: float) -> bool:
        """Whether to insert now: a batch is full, or something has waited long enough."""
        if any(queue.is_full for queue in self.queues.values()):
            return True
        return self._has_work() and self.patience(now) <= 0

    def patience(self, now: float) -> float:
        """How many seconds the next poll may wait."""
        if self.waiting_since is None or not self._has_work():
            return IDLE_POLL_SECONDS
        return max(0.0, self.waiting_since + self._linger_seconds - now)

    def settle(self) -> None:
        """After inserts: no record waits any more, unless something is left to insert."""
        if not self._has_work():
            self.waiting_since = None

    def to_commit(self) -> dict[TopicPartition, Committed]:
        """Finished and planned offsets that differ from what Kafka has."""
        standing = {partition: queue.committable() for partition, queue in self.queues.items()}
        return {p: c for p, c in standing.items() if c is not None and c != self.committed.get(p)}

    def _has_work(self) -> bool:
        return any(queue.has_work for queue in self.queues.values())
