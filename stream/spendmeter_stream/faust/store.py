"""A Faust table store for values that must be right: in memory, by partition, guarded, read in bulk.

Faust's own memory store keeps all partitions in one dict and recovers record by record through its
streams. That needs 90 s for a million entries instead of 3 s for a plain read, and has known ways to stall
(faust#176, #597). This store reads the changelog itself, before Faust checks whether anything is
left to recover. Of two values of a key it keeps the one with the higher guard: a late write by a
worker that was paused cannot set an account back.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aiokafka import TopicPartition
from faust.stores.base import Store
from faust.tables import Table
from faust.types import TP

from spendmeter.kafka.client import consumer
from spendmeter_stream import metrics
from spendmeter_stream.state import ChangelogEntry, NoEntry, check_entry, guard_of

log = logging.getLogger(__name__)

MAX_RECORDS_PER_POLL = 20_000
MAX_REFUSED_LOGGED = 20
"""Per store; the metric counts the rest."""


class VersionedStore(Store):
    """`partition number → {key: value}`, all bytes."""

    def __post_init__(self) -> None:
        self._entries: dict[int, dict[bytes, bytes]] = {}
        self._positions: dict[int, int] = {}
        self._refused = 0

    def entries(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """The current entries of a changelog partition."""
        return self._entries.get(partition, {}).items()

    def wrote(self, partition: int, entries: Iterable[ChangelogEntry], last_offset: int, count: int) -> None:
        """Keep entries that the broker has acknowledged, the last of them at that changelog offset."""
        for key, value in entries:
            self._put(partition, key, value)
        # A foreign record in between shows as a gap; the next rebalance then reads from there.
        if self._positions.get(partition, 0) + count == last_offset + 1:
            self._positions[partition] = last_offset + 1

    def _claim(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Apply a record that was read. An invalid one changes nothing."""
        try:
            check_entry(self.table.name, key, value)
        except NoEntry as wrong:
            metrics.REFUSED_ENTRIES.inc()
            self._refused += 1
            if self._refused <= MAX_REFUSED_LOGGED:
                log.error("%s[%d] offset %d is skipped: %s", self.table.name, partition, offset, wrong)
            return
        assert key is not None, "an entry has a key"
        self._put(partition, key, value)

    def _put(self, partition: int, key: bytes, value: bytes | None) -> None:
        kept = self._entries.setdefault(partition, {})
        if value is None:
            kept.pop(key, None)
        elif key not in kept or guard_of(value) >= guard_of(kept[key]):
            kept[key] = value

    # What Faust calls.

    def persisted_offset(self, tp: TP) -> int | None:
        position = self._positions.get(tp.partition)
        return position - 1 if position else None

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        topic = self.table.changelog_topic_name
        held = {tp.partition for tp in assigned if tp.topic == topic}
        for partition in set(self._entries) | set(self._positions):
            if partition not in held:
                self._entries.pop(partition, None)
                self._positions.pop(partition, None)
        actives = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == topic}
        await self._read(topic, sorted(actives))

    async def _read(self, topic: str, partitions: list[int]) -> None:
        reader = consumer(self.app.settings)
        await reader.start()
        try:
            tps = [TopicPartition(topic, p) for p in partitions]
            reader.assign(tps)
            ends: dict[TopicPartition, int] = await reader.end_offsets(tps)
            begins: dict[TopicPartition, int] = await reader.beginning_offsets(tps)
            for tp in tps:
                reader.seek(tp, max(self._positions.get(tp.partition, 0), begins[tp]))
            count = 0
            while any([await reader.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (
                    await reader.getmany(timeout_ms=1000, max_records=MAX_RECORDS_PER_POLL)
                ).items():
                    count += len(records)
                    for record in records:
                        self._claim(tp.partition, record.offset, record.key, record.value)
            for tp in tps:
                self._positions[tp.partition] = await reader.position(tp)
            log.info("recovered %s: %d records of partitions %s", topic, count, partitions)
        finally:
            await reader.stop()

    def apply_changelog_batch(
        self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Apply records that Faust read: a standby's, or those written during recovery."""
        for event in batch:
            message = event.message
            self._claim(message.partition, message.offset, message.key, message.value)
            self._positions[message.partition] = max(
                self._positions.get(message.partition, 0), message.offset + 1
            )

    def reset_state(self) -> None:
        self._entries.clear()
        self._positions.clear()

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        """Nothing is on disk: the changelog is the copy."""

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:
        """Nothing is on disk: the changelog is the copy."""

    # Faust requires a mapping; our code never uses it.

    def __getitem__(self, key: bytes) -> bytes:
        return next(kept[key] for kept in self._entries.values() if key in kept)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise TypeError("entries are written with their changelog record: see processor.py")

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("entries are written with their changelog record: see processor.py")

    def __iter__(self) -> Iterator[bytes]:
        for kept in self._entries.values():
            yield from kept

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._entries.values())


class VersionedTable(Table):
    """A Faust table (assignment, changelog, standby are Faust's) over a VersionedStore."""

    def _new_store(self) -> VersionedStore:
        # Without a loop: the store is made before one runs, and finds the running one by itself.
        return VersionedStore("guarded://", self.app, self, key_serializer="raw", value_serializer="raw")
