"""The processor: passes fetched records to the meters and judges, and stores their results.

The guarantees depend on the order of the steps. For every batch:

1. Wait until every budget stored before now has been read: an event made after a budget
   was applied is metered under that budget.
2. Fold. A record that cannot be read becomes a dead letter; nothing else is ever skipped.
3. Store new openings, then publish them. After a crash, nobody could explain a total that was
   published before its opening.
4. Store partition sums, producers and position in the meter's changelog, and with them totals,
   dead letters and alerts of unpriced models. A crash before this step leads to a replay. A crash in the
   middle does, too, but the guards add nothing twice. A crash after it has no effect.
5. In parallel with 1 to 4, for the totals of the batch: store signals and alerts, and only then the
   judge's record of having emitted them.
6. Now the source offsets may be committed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol, cast

from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter, Reader, Reason
from spendmeter.contract.records import InvalidRecord, decode, read_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import HISTORY, Total, included_by
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import ForeignProducer, check_writer
from spendmeter.kafka.client import TopicPartition
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.kafka.log_ends import LogEnds
from spendmeter.runtime.metrics import READY
from spendmeter.runtime.process import stop_at_once
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.dead_letters import dead_letter_of
from spendmeter.topics.state import Said
from spendmeter.values.times import EPOCH, from_unix_us
from spendmeter_stream import metrics
from spendmeter_stream.budget_gauges import SHOWN, ClosestAccounts
from spendmeter_stream.judge.judge import Evaluation, Judge
from spendmeter_stream.meter.meter import FoldResult, Meter, TopicRecreated, UsageRecord
from spendmeter_stream.output_writer import OutputWriter, Publish
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE, ChangelogEntry, EntryStore

log = logging.getLogger(__name__)

CHECK_EVERY_SECONDS = 5.0
GAUGES_EVERY_SECONDS = 1.0
WARN_AFTER_SECONDS = 60.0
HALTED_SECONDS = 0.25
MAX_NAMED = 10
"""Budgets in one line of the log."""


class Source(Protocol):
    """The consumer's view of a partition."""

    def position(self, tp: TopicPartition) -> Awaitable[int | None]:
        """The offset of the next record to read, if it is known yet."""

    def earliest_offsets(self, *partitions: TopicPartition) -> Awaitable[Mapping[TopicPartition, int]]:
        """Where the logs begin."""


class Halted(Exception):
    """Nothing was done, and nothing will be until this worker restarts; the processor has logged why."""


class Processor:
    """Owns the meter and the judge of every partition that this worker has."""

    def __init__(
        self, settings: StreamSettings, meters: EntryStore, judges: EntryStore, incarnation: str = ""
    ) -> None:
        """`incarnation`: of spend.usage, as this worker found it."""
        self.source_topics = frozenset({settings.topic(Topic.USAGE), settings.topic(Topic.TOTALS)})
        """Everything else that is fetched is Faust's (changelogs of standbys)."""
        self._settings = settings
        self._usage_topic = settings.topic(Topic.USAGE)
        self._signing_keys = settings.read_signing_keys()
        self._ends = LogEnds(settings, self._usage_topic)
        self._stores = {METER_TABLE: meters, JUDGE_TABLE: judges}
        self._incarnation = incarnation
        self._storing = OutputWriter(settings, self._stores, incarnation)
        self._halted = ""
        self._said = Said(log)
        self._meters: dict[int, Meter] = {}
        self._judges: dict[int, Judge] = {}
        self._unannounced: set[int] = set()
        """Meters whose openings the previous worker may have stored but not published."""
        self._expired_at = monotonic()
        self._checked_at = monotonic()
        self._waiting_since = monotonic()
        self._closest = ClosestAccounts(settings.budget_gauges, settings.budget_gauge_labels)
        self._shown_at = monotonic()
        self._gone_to: dict[int, int] = {}
        """By source partition: the offset up to which the log has reported what retention deleted."""
        self.budgets = BudgetTopic(settings, self._on_budget)

    def store_with(self, publish: Publish) -> None:
        """Set the function that writes; its producer starts before this worker joins its group."""
        self._storing.publish = publish

    async def stop(self) -> None:
        """Close the connections to Kafka."""
        await self._ends.close()

    def _on_budget(self, budget_id: str, budget: Budget | None) -> None:
        for judge in self._judges.values():
            judge.budget_changed(budget_id)

    @property
    def is_halted(self) -> bool:
        """Whether nothing may be counted, because the topics are not what they were."""
        return bool(self._halted)

    def halt(self, why: str) -> None:
        """Count nothing from now on, and say so. To use the new topics, restart this worker."""
        READY.set(0)
        SHOWN.show(())
        why = why or "the topics were not what they are now"
        self._halted = (
            f"not ready, nothing is counted: {why}. `spendmeter move --to-prefix NEW` makes topics whose"
            " accounts open with all that history holds, and says first what it will do"
        )
        self._said.say(self._halted)

    async def wait_halted(self) -> None:
        """Repeat the reason once a minute; return after a short sleep, so that the caller can check again."""
        self._said.say(self._halted)
        await asyncio.sleep(HALTED_SECONDS)

    def forget(self) -> None:
        """Drop meters and judges; they are rebuilt from the stores when they are next needed."""
        self._meters.clear()
        self._judges.clear()
        self._closest.clear()
        SHOWN.show(())

    def own(self, meters: Iterable[int], judges: Iterable[int]) -> None:
        """Open new budgets and judge what the tables hold, even for partitions without new records."""
        for partition in meters:
            self._meter(partition)
        for partition in judges:
            self._judge(partition)

    async def process(
        self, batches: Mapping[TopicPartition, Sequence[FetchedRecord]], alive_at: float, source: Source
    ) -> None:
        """Do the module's steps; return once everything that follows from these records is stored.

        `alive_at`: when this process was last known to be alive, in monotonic seconds.

        Raises:
            KafkaError: something could not be stored.
            Halted: nothing may be counted.

        Meters and judges work on different records and write to different
        partitions, so neither waits for the other.
        """
        for tp in batches:
            if tp.topic == self._usage_topic:
                self._meter(tp.partition)
        if self.is_halted:
            raise Halted
        letters: list[DeadLetter] = []
        usage = {tp.partition: records for tp, records in batches.items() if tp.topic == self._usage_topic}
        from_history = False
        for tp, records in batches.items():
            if tp.topic != self._usage_topic:
                totals = await self._believed(records, letters)
                from_history |= any(total.source_partition == HISTORY for total in totals)
                self._judge(tp.partition).apply(totals)
        if from_history:
            # With a stale book, a balance for the budget's new shape would seem outdated.
            await self.budgets.catch_up()
        for partition, read in usage.items():
            await self._note_gone(partition, read[0].offset, source)
        self._refuse_if_paused(alive_at)
        done = await asyncio.gather(
            self._count(usage, letters, alive_at), self._announce(), return_exceptions=True
        )
        for failure in done:
            if failure is not None:
                raise failure

    async def _count(
        self, usage: Mapping[int, Sequence[FetchedRecord]], letters: list[DeadLetter], alive_at: float
    ) -> None:
        folded: dict[int, FoldResult] = {}
        foreign: list[ForeignProducer] = []
        if usage:
            await self.budgets.catch_up()
            for partition, records in usage.items():
                folded[partition] = self._fold(partition, records, letters, foreign)
        self._refuse_if_paused(alive_at)
        await self._storing.store_folded(folded, letters, foreign)

    async def passed(self, tp: TopicPartition, next_offset: int, source: Source) -> None:
        """Note that reading continues at `next_offset` and that no record is left before it."""
        if tp.topic == self._usage_topic:
            await self._note_gone(tp.partition, next_offset, source)

    async def _note_gone(self, partition: int, next_offset: int, source: Source) -> None:
        """Log how many records retention deleted uncounted. Transaction markers leave holes, too."""
        position = self._meter(partition).position
        expected = max(position + 1, self._gone_to.get(partition, 0))
        if position < 0 or next_offset <= expected:
            return
        tp = TopicPartition(self._usage_topic, partition)
        gone = min((await source.earliest_offsets(tp))[tp], next_offset) - expected
        self._gone_to[partition] = next_offset
        if gone > 0:
            log.error("%s[%d]: retention deleted %d uncounted records from offset %d on", *tp, gone, expected)
            metrics.GAPS.inc(gone)

    async def idle(self, alive_at: float, source: Source) -> None:
        """Do the timed work of each round: open new budgets, judge accounts that wait or whose budget
        changed, expire what is old."""
        if self.is_halted:
            return
        await self._open(alive_at, source)
        await self._announce()
        if monotonic() - self._expired_at >= self._settings.expire_interval_seconds:
            self._expired_at = monotonic()
            await self._expire()
        if monotonic() - self._checked_at >= CHECK_EVERY_SECONDS:
            self._checked_at = monotonic()
            self._say_waiting()
        if monotonic() - self._shown_at >= GAUGES_EVERY_SECONDS:
            self._shown_at = monotonic()
            self._show_closest()

    def _show_closest(self) -> None:
        """Let the metrics page have the accounts that are closest to their limit now."""
        closest = self._closest.closest(self.budgets.book, datetime.now(UTC))
        if closest is not None:
            SHOWN.show(closest)

    def _say_waiting(self) -> None:
        """Count the budgets whose signals say `opening`; warn once some have done so for a minute."""
        judge = next(iter(self._judges.values()), None)
        waiting = judge.opening(self.budgets.book, datetime.now(UTC)) if judge is not None else []
        metrics.OPENING.set(len(waiting))
        if not waiting:
            self._waiting_since = monotonic()
        elif monotonic() - self._waiting_since >= WARN_AFTER_SECONDS:
            self._waiting_since = monotonic()
            log.warning(
                "%d budgets have lacked their opening balance for %g s (%s): their signals say `opening` and"
                " lack what was spent before they were counted. A ClickHouse sink adds it up; if one"
                " runs, its log says what it waits for",
                len(waiting),
                WARN_AFTER_SECONDS,
                ", ".join(waiting[:MAX_NAMED]) + (", …" if len(waiting) > MAX_NAMED else ""),
            )

    async def _open(self, alive_at: float, source: Source) -> None:
        """Open the budgets that are new in the book, even if nothing is spent on them."""
        if not self.budgets.caught_up.is_set():
            return
        if self._unannounced:
            # A book older than the previous worker's would close what that worker opened.
            await self.budgets.catch_up()
        openings: dict[int, list[ChangelogEntry]] = {}
        for partition, meter in list(self._meters.items()):
            at = (
                0
                if meter.position >= 0
                else await source.position(TopicPartition(self._usage_topic, partition))
            )
            if at is not None and (entries := meter.open(self.budgets.book, at)):
                openings[partition] = entries
        if openings:
            self._refuse_if_paused(alive_at)
        await self._storing.store_openings(openings)
        partitions, self._unannounced = self._unannounced, set()
        await self._storing.publish_openings(
            {p: m.openings() for p, m in self._meters.items() if p in partitions}
        )

    def _meter(self, partition: int) -> Meter:
        meter = self._meters.get(partition)
        if meter is None:
            meter = Meter.restore(
                partition,
                self._stores[METER_TABLE].entries(partition),
                self._settings.max_accounts_per_budget,
                self._incarnation,
            )
            if meter.folded_incarnation not in ("", self._incarnation):
                self.halt(
                    f"{self._usage_topic} was deleted and created anew: its id is {self._incarnation}, but"
                    f" the stream's state belongs to {meter.folded_incarnation}"
                )
            self._meters[partition] = meter
            self._unannounced.add(partition)
        return meter

    def _fold(
        self,
        partition: int,
        records: Sequence[FetchedRecord],
        letters: list[DeadLetter],
        foreign: list[ForeignProducer],
    ) -> FoldResult:
        meter = self._meter(partition)
        try:
            result = meter.fold(list(self._usages(records, letters, foreign)), self.budgets.book)
        except TopicRecreated as recreated:
            self.halt(str(recreated))
            raise Halted from None
        metrics.EVENTS.labels("counted").inc(result.counted)
        metrics.EVENTS.labels("resent").inc(result.resent)
        metrics.EVENTS.labels("replayed").inc(result.replayed)
        metrics.CAPPED.inc(result.capped)
        metrics.POSITION.labels(str(partition)).set(meter.position)
        return result

    def _usages(
        self,
        records: Sequence[FetchedRecord],
        letters: list[DeadLetter],
        foreign: list[ForeignProducer],
    ) -> Iterator[UsageRecord]:
        appended_ms: int | None = None
        appended_at = EPOCH
        for record in records:
            if record.timestamp != appended_ms:
                # The broker stamps a whole batch of records at once.
                appended_ms, appended_at = record.timestamp, from_unix_us(record.timestamp * 1000)
            event: UsageEvent | None = None
            try:
                # A fold needs only these attributes, and building a model would cost as much again.
                read = cast(UsageEvent, read_usage(record.value, record.headers, appended_at))
                check_writer(record, read, appended_at, self._signing_keys)
                event = read
            except InvalidRecord as invalid:
                letters.append(self._letter(record, invalid))
                if isinstance(invalid, ForeignProducer):
                    foreign.append(invalid)
            yield UsageRecord(record.offset, appended_at, event)

    async def _believed(self, records: Sequence[FetchedRecord], letters: list[DeadLetter]) -> list[Total]:
        """The totals without those that include more of spend.usage than exists: these would never leave."""
        read: list[tuple[FetchedRecord, Total]] = []
        for record in records:
            if record.value is None:
                continue
            try:
                read.append((record, decode(Total, record.value, record.headers)))
            except InvalidRecord as invalid:
                letters.append(self._letter(record, invalid))
        for partition, meter in self._meters.items():
            self._ends.stored(partition, meter.position)
        ahead = {
            partition
            for _, total in read
            for partition, offset in included_by(total).items()
            if offset >= self._ends.end(partition)
        }
        if not ahead:
            return [total for _, total in read]
        # Other workers' totals: each was stored after the last record that it includes.
        await self._ends.refresh(ahead)
        totals = []
        for record, total in read:
            if self._ends.hold(included_by(total)):
                totals.append(total)
                continue
            detail = f"it includes more of {self._ends.topic} than exists: the stream did not write it"
            letters.append(self._letter(record, InvalidRecord(Reason.INVALID, detail)))
        return totals

    def _letter(self, record: FetchedRecord, invalid: InvalidRecord) -> DeadLetter:
        metrics.DEAD_LETTERS.labels(record.topic, invalid.reason).inc()
        log.warning(
            "%s[%d] offset %d is a dead letter: %s", record.topic, record.partition, record.offset, invalid
        )
        return dead_letter_of(record, invalid, self._settings.component, Reader.STREAM, datetime.now(UTC))

    def _judge(self, partition: int) -> Judge:
        judge = self._judges.get(partition)
        if judge is None:
            entries = self._stores[JUDGE_TABLE].entries(partition)
            judge = self._judges[partition] = Judge.restore(entries, self._incarnation)
        return judge

    async def _announce(self) -> None:
        now = datetime.now(UTC)
        await self._store_judgements(
            {p: judge.judge(self.budgets.book, now) for p, judge in self._judges.items()}
        )

    async def _store_judgements(self, evaluations: Mapping[int, Evaluation]) -> None:
        await self._storing.store_judgements(evaluations)
        for evaluation in evaluations.values():
            self._closest.apply(evaluation.signals, evaluation.withdrawn)

    async def _expire(self) -> None:
        # With a stale book, the accounts of a new budget would be forgotten.
        await self.budgets.catch_up()
        now, book = datetime.now(UTC), self.budgets.book
        await self._store_judgements({p: judge.expire(book, now) for p, judge in self._judges.items()})
        await self._storing.store_expired({p: meter.expire(book) for p, meter in self._meters.items()})

    def _refuse_if_paused(self, alive_at: float) -> None:
        """Stop a worker that was frozen for longer than its session: it no longer owns its partitions."""
        if monotonic() - alive_at > self._settings.session_timeout_seconds:
            stop_at_once(
                "this process was frozen for longer than its session; its partitions have another owner"
            )
