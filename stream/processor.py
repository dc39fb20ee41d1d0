"""The processor: hands what was fetched to the meters and judges, and stores what they say.

The order of the steps is the guarantee. For every batch:

1. Wait until every budget that was stored before now has been read (an event made after a budget
   was applied is metered under it).
2. Fold. A record that cannot be read becomes a dead letter; nothing else is ever skipped.
3. Store new openings, then tell them. A total that left before its opening could not be explained
   after a crash.
4. Store tallies, producers and position in the meter's changelog; totals, dead letters and alerts
   of unpriced models beside them. A crash before this is a replay; in the middle, the guards make
   the replay add nothing twice; after it, neither.
5. Beside 1 to 4, for the totals of the batch: store signals and alerts, and only then what the
   judge remembers of having told them.
6. Now the source offsets may be committed.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter, hold, hold_headers
from spendmeter.contract.records import (
    InvalidRecord,
    Record,
    decode,
    decode_usage,
    encode_alert,
    encode_dead_letter,
    encode_opening,
    encode_signal,
    encode_total,
)
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import HISTORY, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.runtime.budget_topic import BudgetTopic
from spendmeter.runtime.kafka import partition_of
from stream import metrics
from stream.changelog import OPENING, Entry
from stream.drain import Position, stop_at_once
from stream.judge import Judge, Judgement
from stream.meter import Folded, Meter
from stream.openings import told
from stream.publish import Outgoing, publish
from stream.recreated import Usage
from stream.settings import StreamSettings
from stream.signals import unpriced_alert
from stream.store import GuardedStore

log = logging.getLogger(__name__)

METER_TABLE, JUDGE_TABLE = "meter", "judge"
MAX_UNPRICED_MODELS = 10_000


class Processor:
    """Owns the meter and the judge of every partition that this worker has."""

    def __init__(self, settings: StreamSettings, meters: GuardedStore, judges: GuardedStore) -> None:
        self.topics = frozenset({settings.topic(Topic.USAGE), settings.topic(Topic.TOTALS)})
        self._settings = settings
        self._usage_topic = settings.topic(Topic.USAGE)
        self._stores = {METER_TABLE: meters, JUDGE_TABLE: judges}
        self._meters: dict[int, Meter] = {}
        self._judges: dict[int, Judge] = {}
        self._untold: set[int] = set()
        """Meters whose openings the worker before may have stored without telling them."""
        self._expired_at = monotonic()
        self._unpriced_told: set[tuple[str, str]] = set()
        self.budgets = BudgetTopic(settings, self._on_budget)
        self.kafka: AIOKafkaProducer | None = None

    def _on_budget(self, budget_id: str, budget: Budget | None) -> None:
        for judge in self._judges.values():
            judge.budget_changed(budget_id)

    def forget(self) -> None:
        """Build meters and judges anew from the stores when they are next needed."""
        self._meters.clear()
        self._judges.clear()

    def own(self, meters: Iterable[int], judges: Iterable[int]) -> None:
        """Open new budgets and judge what the tables hold, also where no records come."""
        for partition in meters:
            self._meter(partition)
        for partition in judges:
            self._judge(partition)

    async def process(self, batches: Mapping[TP, Sequence[ConsumerRecord]], alive_at: float) -> None:
        """See the module's steps. Raises KafkaError when something could not be stored.

        What the meters fold and what the judges tell now rest on other records and go to other
        partitions, so neither waits for the other.
        """
        letters: list[DeadLetter] = []
        usage = {tp.partition: records for tp, records in batches.items() if tp.topic == self._usage_topic}
        from_history = False
        for tp, records in batches.items():
            if tp.topic != self._usage_topic:
                totals = list(self._totals(records, letters))
                from_history |= any(total.source_partition == HISTORY for total in totals)
                self._judge(tp.partition).take(totals)
        if from_history:
            # A book that lags would take a balance of the budget as it is now for an outdated one.
            await self.budgets.catch_up()
        self._refuse_if_paused(alive_at)
        await asyncio.gather(self._count(usage, letters, alive_at), self._tell())

    async def _count(
        self, usage: Mapping[int, Sequence[ConsumerRecord]], letters: list[DeadLetter], alive_at: float
    ) -> None:
        folded: dict[int, Folded] = {}
        if usage:
            await self.budgets.catch_up()
            for partition, records in usage.items():
                folded[partition] = self._fold(partition, records, letters)
        self._refuse_if_paused(alive_at)
        await self._store_folded(folded, letters)

    async def idle(self, alive_at: float, position: Position) -> None:
        """Open new budgets, judge accounts that wait or whose budget changed, expire what is old."""
        await self._open(alive_at, position)
        await self._tell()
        if monotonic() - self._expired_at >= self._settings.expire_interval_seconds:
            self._expired_at = monotonic()
            await self._expire()

    async def _open(self, alive_at: float, position: Position) -> None:
        """Open what is new in the book, also where nothing is spent."""
        if not self.budgets.caught_up.is_set():
            return
        if self._untold:
            # A book that lags behind the worker before us would close what that one has opened.
            await self.budgets.catch_up()
        openings: dict[int, list[Entry]] = {}
        for partition, meter in list(self._meters.items()):
            at = 0 if meter.position >= 0 else await position(TP(self._usage_topic, partition))
            if at is not None and (entries := meter.open(self.budgets.book, at)):
                openings[partition] = entries
        if openings:
            self._refuse_if_paused(alive_at)
        await self._store_openings(openings)
        untold, self._untold = self._untold, set()
        await self._tell_openings({p: m.openings() for p, m in self._meters.items() if p in untold})

    def _meter(self, partition: int) -> Meter:
        meter = self._meters.get(partition)
        if meter is None:
            meter = Meter.restore(partition, self._stores[METER_TABLE].entries(partition))
            self._meters[partition] = meter
            self._untold.add(partition)
        return meter

    def _fold(self, partition: int, records: Sequence[ConsumerRecord], letters: list[DeadLetter]) -> Folded:
        meter = self._meter(partition)
        if records[0].offset > meter.position + 1 and meter.position >= 0:
            # Only what the broker's retention took can be missing here.
            lost = records[0].offset - meter.position - 1
            log.error("spend.usage[%d]: %d records after offset %d are gone", partition, lost, meter.position)
            metrics.GAPS.inc(lost)
        result = meter.fold([self._usage(record, letters) for record in records], self.budgets.book)
        metrics.EVENTS.labels("counted").inc(result.counted)
        metrics.EVENTS.labels("resent").inc(result.resent)
        metrics.EVENTS.labels("replayed").inc(result.replayed)
        metrics.POSITION.labels(str(partition)).set(meter.position)
        return result

    def _usage(self, record: ConsumerRecord, letters: list[DeadLetter]) -> Usage:
        appended_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        event: UsageEvent | None = None
        try:
            event = decode_usage(record.value, record.headers, appended_at)
        except InvalidRecord as invalid:
            letters.append(self._letter(record, invalid))
        return Usage(record.offset, appended_at, event)

    def _totals(self, records: Sequence[ConsumerRecord], letters: list[DeadLetter]) -> Iterable[Total]:
        for record in records:
            if record.value is None:
                continue
            try:
                yield decode(Total, record.value, record.headers)
            except InvalidRecord as invalid:
                letters.append(self._letter(record, invalid))

    def _letter(self, record: ConsumerRecord, invalid: InvalidRecord) -> DeadLetter:
        metrics.DEAD_LETTERS.labels(record.topic, invalid.reason).inc()
        log.warning(
            "%s[%d] offset %d is a dead letter: %s", record.topic, record.partition, record.offset, invalid
        )
        return DeadLetter(
            source_topic=record.topic,
            source_partition=record.partition,
            source_offset=record.offset,
            reason=invalid.reason,
            detail=invalid.detail,
            component=self._settings.component,
            headers=hold_headers(record.headers),
            failed_at=datetime.now(UTC),
            **hold(record.key, record.value),
        )

    def _judge(self, partition: int) -> Judge:
        judge = self._judges.get(partition)
        if judge is None:
            judge = self._judges[partition] = Judge.restore(self._stores[JUDGE_TABLE].entries(partition))
        return judge

    async def _store_folded(self, folded: Mapping[int, Folded], letters: Sequence[DeadLetter]) -> None:
        await self._store_openings({p: result.openings for p, result in folded.items() if result.openings})
        now = datetime.now(UTC)
        beside = [self._outgoing(Topic.DEAD_LETTERS, encode_dead_letter(letter), 0) for letter in letters]
        for result in folded.values():
            for total in result.totals:
                at = partition_of(total.account, self._settings.partitions)
                beside.append(self._outgoing(Topic.TOTALS, encode_total(total, now), at))
            beside += self._unpriced(result.unpriced, now)
        await self._store_entries(METER_TABLE, {p: result.entries for p, result in folded.items()}, beside)

    async def _store_openings(self, openings: Mapping[int, list[Entry]]) -> None:
        await self._store_entries(METER_TABLE, openings, [])
        await self._tell_openings(openings)

    async def _tell_openings(self, openings: Mapping[int, list[Entry]]) -> None:
        now = datetime.now(UTC)
        telling: list[Outgoing] = []
        for partition, entries in openings.items():
            for key, opening in told(entries, partition):
                if opening is None:
                    topic = self._settings.topic(Topic.OPENINGS)
                    telling.append(Outgoing(topic, 0, key.encode(), None, []))
                else:
                    telling.append(self._outgoing(Topic.OPENINGS, encode_opening(opening, now), 0))
        await self._publish(telling)

    def _unpriced(self, events: Sequence[UsageEvent], now: datetime) -> Iterable[Outgoing]:
        if len(self._unpriced_told) > MAX_UNPRICED_MODELS:
            self._unpriced_told.clear()
        for event in events:
            metrics.UNPRICED.labels(event.model or event.model_group).inc()
            told = (event.model or event.model_group, now.date().isoformat())
            if told not in self._unpriced_told:
                self._unpriced_told.add(told)
                yield self._outgoing(
                    Topic.ALERTS, encode_alert(unpriced_alert(told[0], event.event_id, now)), 0
                )

    async def _tell(self) -> None:
        now = datetime.now(UTC)
        told = {p: judge.judge(self.budgets.book, now) for p, judge in self._judges.items()}
        await self._store_judgements(told)

    async def _expire(self) -> None:
        # A book that lags would forget the accounts of a budget that is new.
        await self.budgets.catch_up()
        now, book = datetime.now(UTC), self.budgets.book
        await self._store_judgements({p: judge.expire(book, now) for p, judge in self._judges.items()})
        entries: dict[int, list[Entry]] = {}
        openings: dict[int, list[Entry]] = {}
        totals: list[Outgoing] = []
        for partition, meter in self._meters.items():
            entries[partition], keys = meter.expire(book)
            openings[partition] = [entry for entry in entries[partition] if entry.key.startswith(OPENING)]
            for key in keys:
                account = key.rsplit("|", 2)[0]
                at = partition_of(account, self._settings.partitions)
                totals.append(Outgoing(self._settings.topic(Topic.TOTALS), at, key.encode(), None, []))
        # The totals first: a crash in between leaves tallies, and these expire again.
        await self._publish(totals)
        await self._store_entries(METER_TABLE, entries, [])
        await self._tell_openings(openings)

    async def _store_judgements(self, judgements: Mapping[int, Judgement]) -> None:
        telling: list[Outgoing] = []
        for partition, judgement in judgements.items():
            topic = self._settings.topic(Topic.TOTALS)
            telling += [Outgoing(topic, partition, key.encode(), None, []) for key in judgement.forgotten]
            for signal in judgement.signals:
                at = partition_of(signal.account, self._settings.partitions)
                telling.append(self._outgoing(Topic.SIGNALS, encode_signal(signal), at))
            for account in judgement.withdrawn:
                at = partition_of(account, self._settings.partitions)
                telling.append(Outgoing(self._settings.topic(Topic.SIGNALS), at, account.encode(), None, []))
            telling += [self._outgoing(Topic.ALERTS, encode_alert(alert), 0) for alert in judgement.alerts]
            metrics.SIGNALS.inc(len(judgement.signals))
            for alert in judgement.alerts:
                metrics.ALERTS.labels(alert.kind).inc()
        await self._publish(telling)
        await self._store_entries(JUDGE_TABLE, {p: j.entries for p, j in judgements.items()}, [])

    async def _store_entries(
        self, table: str, entries: Mapping[int, Sequence[Entry]], beside: Sequence[Outgoing]
    ) -> None:
        changelog = self._settings.changelog(table)
        records = [
            Outgoing(changelog, p, e.key, e.value, []) for p, written in entries.items() for e in written
        ]
        last = await self._publish([*records, *beside])
        for partition, written in entries.items():
            if written:
                self._stores[table].wrote(partition, written, last[changelog, partition], len(written))

    async def _publish(self, records: Sequence[Outgoing]) -> dict[tuple[str, int], int]:
        assert self.kafka is not None, "the producer is started before the worker joins"
        return await publish(self.kafka, records) if records else {}

    def _outgoing(self, topic: Topic, record: Record, partition: int) -> Outgoing:
        return Outgoing(self._settings.topic(topic), partition, *record)

    def _refuse_if_paused(self, alive_at: float) -> None:
        """A worker that stood still for longer than its session no longer owns its partitions."""
        if monotonic() - alive_at > self._settings.session_timeout_seconds:
            stop_at_once(
                "this process stood still for longer than its session; its partitions have another owner"
            )
