"""Storing the results of meters and judges, in the order that processor.py promises.

Each method returns once the brokers have stored everything. It raises KafkaError if they refuse something
for good; then nobody knows how much of the rest is stored.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.records import (
    Record,
    encode_alert,
    encode_dead_letter,
    encode_opening,
    encode_signal,
    encode_total,
)
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import ForeignProducer
from spendmeter.kafka.client import partition_of
from spendmeter_stream import metrics
from spendmeter_stream.judge.judge import Evaluation
from spendmeter_stream.judge.signals import doubted_alert, foreign_producer_alert, unpriced_alert
from spendmeter_stream.meter.counting_starts import opening_records
from spendmeter_stream.meter.meter import FoldResult
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE, OPENING, ChangelogEntry, EntryStore


class ProducerRecord(NamedTuple):
    """One record; its partition is always the caller's decision."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


Publish = Callable[[Iterable[ProducerRecord]], Awaitable[dict[tuple[str, int], int]]]
"""`publish` with its producer."""


async def publish(kafka: AIOKafkaProducer, records: Iterable[ProducerRecord]) -> dict[tuple[str, int], int]:
    """Send records, in order within each partition, and wait until all of them are stored.

    Sends whole batches, because one call of the client per record would cost more than
    everything else. Returns the offset of the last record of each partition.

    Raises:
        KafkaError: a batch was refused for good; nobody knows how much of the rest is stored.
    """
    by_partition: dict[tuple[str, int], list[ProducerRecord]] = defaultdict(list)
    for record in records:
        by_partition[record.topic, record.partition].append(record)
    handed = [await _hand_over(kafka, *where, batch) for where, batch in by_partition.items()]
    last: dict[tuple[str, int], int] = {}
    for where, futures in zip(by_partition, handed, strict=True):
        for future, count in futures:
            metadata: RecordMetadata = await future
            last[where] = metadata.offset + count - 1
    return last


async def _hand_over(
    kafka: AIOKafkaProducer, topic: str, partition: int, records: list[ProducerRecord]
) -> list[tuple[asyncio.Future[RecordMetadata], int]]:
    sent = []
    batch, count = kafka.create_batch(), 0
    for record in records:
        while (
            batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None
        ):
            if count == 0:
                raise ValueError(f"a record of {len(record.value or b'')} bytes for {topic} fits no batch")
            sent.append((await kafka.send_batch(batch, topic, partition=partition), count))
            batch, count = kafka.create_batch(), 0
        count += 1
    sent.append((await kafka.send_batch(batch, topic, partition=partition), count))
    return sent


MAX_UNPRICED_MODELS = 10_000
MAX_DOUBTED_MODELS = 10_000
MAX_FOREIGN_PRODUCERS = 100
"""Alerts a day from one worker."""


class OutputWriter:
    """The only way in which a worker writes to Kafka."""

    def __init__(
        self, settings: StreamSettings, stores: Mapping[str, EntryStore], incarnation: str = ""
    ) -> None:
        """`incarnation`: of spend.usage, which the offsets of openings are of."""
        self._incarnation = incarnation
        self._partitions = settings.partitions
        self._topics = {topic: settings.topic(topic) for topic in Topic}
        self._changelogs = {table: settings.changelog(table) for table in stores}
        self._stores = stores
        self._unpriced_published: set[tuple[str, str]] = set()
        self._doubts_alerted: set[tuple[str, str, str]] = set()
        self._foreign_alerted: set[tuple[str, str]] = set()
        self.publish: Publish | None = None

    async def store_folded(
        self,
        folded: Mapping[int, FoldResult],
        letters: Sequence[DeadLetter],
        foreign: Sequence[ForeignProducer] = (),
    ) -> None:
        """Store openings first; then partition sums, producers and position with everything else."""
        await self.store_openings({p: result.openings for p, result in folded.items() if result.openings})
        now = datetime.now(UTC)
        beside = [self._outgoing(Topic.DEAD_LETTERS, encode_dead_letter(letter), 0) for letter in letters]
        beside += self._foreign(foreign, now)
        for result in folded.values():
            beside += [
                self._outgoing(
                    Topic.TOTALS, encode_total(total, now), partition_of(total.account, self._partitions)
                )
                for total in result.totals
            ]
            beside += self._unpriced(result.unpriced, now)
            beside += self._doubted(result.doubted, now)
        await self._store_entries(METER_TABLE, {p: result.entries for p, result in folded.items()}, beside)

    async def store_openings(self, openings: Mapping[int, list[ChangelogEntry]]) -> None:
        """Store openings, by source partition, then publish them."""
        await self._store_entries(METER_TABLE, openings, [])
        await self.publish_openings(openings)

    async def publish_openings(self, openings: Mapping[int, list[ChangelogEntry]]) -> None:
        """Publish openings that are already stored."""
        now = datetime.now(UTC)
        publishing: list[ProducerRecord] = []
        for partition, entries in openings.items():
            for key, opening in opening_records(entries, partition, self._incarnation):
                if opening is None:
                    publishing.append(self._removal(Topic.OPENINGS, 0, key))
                else:
                    publishing.append(self._outgoing(Topic.OPENINGS, encode_opening(opening, now), 0))
        await self._publish(publishing)

    async def store_judgements(self, judgements: Mapping[int, Evaluation]) -> None:
        """Store signals and alerts, by partition of spend.totals; then the judges' record of them.

        An account has the same partition number in spend.totals and in spend.signals.
        """
        publishing: list[ProducerRecord] = []
        for partition, evaluation in judgements.items():
            publishing += [self._removal(Topic.TOTALS, partition, key) for key in evaluation.forgotten]
            publishing += [
                self._outgoing(Topic.SIGNALS, encode_signal(s), partition) for s in evaluation.signals
            ]
            publishing += [
                self._removal(Topic.SIGNALS, partition, account) for account in evaluation.withdrawn
            ]
            publishing += [
                self._outgoing(Topic.ALERTS, encode_alert(alert), 0) for alert in evaluation.alerts
            ]
            metrics.SIGNALS.inc(len(evaluation.signals))
            for alert in evaluation.alerts:
                metrics.ALERTS.labels(alert.kind).inc()
        await self._publish(publishing)
        await self._store_entries(JUDGE_TABLE, {p: j.entries for p, j in judgements.items()}, [])

    async def store_expired(self, expired: Mapping[int, tuple[list[ChangelogEntry], list[str]]]) -> None:
        """Store, by source partition, the changelog's tombstones and remove the totals with these keys."""
        totals: list[ProducerRecord] = []
        for _, keys in expired.values():
            for key in keys:
                account = key.rsplit("|", 2)[0]
                totals.append(self._removal(Topic.TOTALS, partition_of(account, self._partitions), key))
        # The totals first: a crash in between leaves partition sums, and these expire again.
        await self._publish(totals)
        entries = {p: tombstones for p, (tombstones, _) in expired.items()}
        await self._store_entries(METER_TABLE, entries, [])
        await self.publish_openings(
            {p: [e for e in es if e.key.startswith(OPENING)] for p, es in entries.items()}
        )

    def _unpriced(self, events: Sequence[UsageEvent], now: datetime) -> Iterable[ProducerRecord]:
        if len(self._unpriced_published) > MAX_UNPRICED_MODELS:
            self._unpriced_published.clear()
        for event in events:
            metrics.UNPRICED.labels(event.model or event.model_group).inc()
            unpriced = (event.model or event.model_group, now.date().isoformat())
            if unpriced not in self._unpriced_published:
                self._unpriced_published.add(unpriced)
                yield self._outgoing(
                    Topic.ALERTS, encode_alert(unpriced_alert(unpriced[0], event.event_id, now)), 0
                )

    def _doubted(self, events: Sequence[UsageEvent], now: datetime) -> Iterable[ProducerRecord]:
        if len(self._doubts_alerted) > MAX_DOUBTED_MODELS:
            self._doubts_alerted.clear()
        for event in events:
            metrics.DOUBTED.labels(event.cost_doubt).inc()
            alerted = (event.model or event.model_group, event.cost_doubt.value, now.date().isoformat())
            if alerted not in self._doubts_alerted:
                self._doubts_alerted.add(alerted)
                yield self._outgoing(Topic.ALERTS, encode_alert(doubted_alert(event, now)), 0)

    def _foreign(self, foreign: Sequence[ForeignProducer], now: datetime) -> Iterable[ProducerRecord]:
        for one in foreign:
            alerted = (one.producer_id, now.date().isoformat())
            # Anybody can invent ids; dead letters and the metric have what exceeds the bound.
            if alerted not in self._foreign_alerted and len(self._foreign_alerted) < MAX_FOREIGN_PRODUCERS:
                self._foreign_alerted.add(alerted)
                yield self._outgoing(Topic.ALERTS, encode_alert(foreign_producer_alert(one, now)), 0)
        if len(self._foreign_alerted) >= MAX_FOREIGN_PRODUCERS:
            today = now.date().isoformat()
            self._foreign_alerted = {alerted for alerted in self._foreign_alerted if alerted[1] == today}

    async def _store_entries(
        self, table: str, entries: Mapping[int, Sequence[ChangelogEntry]], beside: Sequence[ProducerRecord]
    ) -> None:
        changelog = self._changelogs[table]
        records = [
            ProducerRecord(changelog, p, e.key, e.value, [])
            for p, written in entries.items()
            for e in written
        ]
        last = await self._publish([*records, *beside])
        for partition, written in entries.items():
            if written:
                self._stores[table].wrote(partition, written, last[changelog, partition], len(written))

    async def _publish(self, records: Sequence[ProducerRecord]) -> dict[tuple[str, int], int]:
        assert self.publish is not None, "the producer is started before the worker joins"
        return await self.publish(records) if records else {}

    def _outgoing(self, topic: Topic, record: Record, partition: int) -> ProducerRecord:
        return ProducerRecord(self._topics[topic], partition, *record)

    def _removal(self, topic: Topic, partition: int, key: str) -> ProducerRecord:
        return ProducerRecord(self._topics[topic], partition, key.encode(), None, [])
