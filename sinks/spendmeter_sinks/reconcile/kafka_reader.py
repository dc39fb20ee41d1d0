"""The edge to Kafka: the ends of topics, the offsets of a group, the events in a range of spend.usage."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from spendmeter.contract.records import InvalidRecord, decode, decode_usage
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Total, included_by
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import check_writer
from spendmeter.kafka.client import AIOKafkaConsumer, TopicPartition, admin_client, consumer
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.kafka.groups import behind, wait_until_passed
from spendmeter.kafka.log_ends import FollowedWithinTheLog, LogEnds, WithinTheLog
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.reconcile.totals import Totals

MAX_RECORDS_PER_POLL = 5_000


class CannotCompare(Exception):
    """There is nothing to compare, or it did not arrive in time; the message names the reason and the fix."""


class KafkaReader:
    """Queries about topics and groups. An asynchronous context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signing_keys = settings.read_signing_keys()
        self._consumer: AIOKafkaConsumer = consumer(settings)
        self._admin = admin_client(settings)

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()
        await self._consumer.stop()

    async def ends(self, topic: Topic) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition that holds records; others are left out."""
        name = self._settings.topic(topic)
        partitions = [TopicPartition(name, n) for n in sorted(await self._partitions(name))]
        begins = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        return {p: ends[p] for p in partitions if ends[p] > begins[p]}

    async def _partitions(self, name: str) -> set[int]:
        described = await self._admin.describe_topics([name])
        if described[0]["error_code"]:
            raise CannotCompare(
                f"{self._settings.kafka_bootstrap} has no topic {name}; check SPENDMETER_KAFKA_BOOTSTRAP and"
                " SPENDMETER_TOPIC_PREFIX, or start the system"
            )
        return {found["partition"] for found in described[0]["partitions"]}

    async def wait_until_passed(
        self, group: str, ends: Mapping[TopicPartition, int], within_seconds: float, who: str
    ) -> None:
        """Return once the group has committed all these offsets. Traffic may go on.

        Raises:
            CannotCompare: not within the time.
        """
        left = await wait_until_passed(self._admin, self._settings, group, ends, within_seconds)
        if left:
            partition, at = next(iter(sorted(left.items())))
            raise CannotCompare(
                f"{who} has not read {partition.topic}[{partition.partition}] up to offset"
                f" {ends[partition]} within {within_seconds:g} s, it stands at {at};"
                " start it or let it catch up (`spendmeter status` says what runs), or give more --wait"
            )

    async def lag(self, group: str, ends: Mapping[TopicPartition, int]) -> int:
        """How many records before these offsets the group has not committed."""
        left = await behind(self._admin, self._settings, group, ends)
        return sum(ends[p] - max(at, 0) for p, at in left.items())

    async def usage(self, partition: int, first: int, last: int) -> AsyncIterator[tuple[int, UsageEvent]]:
        """The events that Kafka still has at those offsets; unreadable records are left out."""
        tp = TopicPartition(self._settings.topic(Topic.USAGE), partition)
        self._consumer.assign([tp])
        begin = (await self._consumer.beginning_offsets([tp]))[tp]
        end = (await self._consumer.end_offsets([tp]))[tp]
        self._consumer.seek(tp, max(first, begin))
        stop = min(last + 1, end)
        while await self._consumer.position(tp) < stop:
            batches = await self._consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS_PER_POLL)
            for record in batches.get(tp, ()):
                event = self._read(record)
                if event is not None and record.offset < stop:
                    yield record.offset, event

    async def first_usage_offset(self, partition: int) -> int:
        """The first offset of spend.usage that Kafka still has."""
        tp = TopicPartition(self._settings.topic(Topic.USAGE), partition)
        begins: dict[TopicPartition, int] = await self._consumer.beginning_offsets([tp])
        return begins[tp]

    def _read(self, record: StoredRecord) -> UsageEvent | None:
        appended_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        try:
            event = decode_usage(record.value, record.headers, appended_at)
            check_writer(record, event, appended_at, self._signing_keys)
        except InvalidRecord:
            return None
        return event


class FollowedTotals:
    """Follows spend.totals as the judge does: without totals that include more of spend.usage than exists."""

    def __init__(self, settings: Settings) -> None:
        self.totals = Totals()
        ends = LogEnds(settings, settings.topic(Topic.USAGE))
        # What the judge sets aside does not count here either.
        self._within = WithinTheLog[_Read](ends, _included_by, self._bring_in, lambda _: None)
        reader = CompactedTopics(settings, [settings.topic(Topic.TOTALS)], self._on_record)
        followed = FollowedWithinTheLog(reader, ends, self._within)
        self.run, self.catch_up = followed.run, followed.catch_up
        self.wait_caught_up = followed.wait_caught_up

    def _on_record(self, record: StoredRecord) -> None:
        if record.value is None:
            self._within.offer((record.key or b"").decode(errors="replace"))
            return
        try:
            self._within.offer(decode(Total, record.value, record.headers))
        except InvalidRecord:
            return  # the stream has made it a dead letter

    def _bring_in(self, read: "_Read") -> None:
        if isinstance(read, Total):
            self.totals.apply(read)
        else:
            self.totals.remove(read)


_Read = Total | str
"""A total, or the key of one that is removed."""


def _included_by(read: _Read) -> Mapping[int, int]:
    return included_by(read) if isinstance(read, Total) else {}


class Follower(Protocol):
    """Reads a topic for as long as it runs."""

    def run(self) -> Coroutine[Any, Any, None]: ...

    def wait_caught_up(self) -> Coroutine[Any, Any, None]: ...


@asynccontextmanager
async def following(within_seconds: float, *followers: Follower) -> AsyncIterator[None]:
    """Run followers for as long as the context lasts; enter once each has read the existing records.

    Raises:
        CannotCompare: they did not within the time.
        ReaderEnded: one has ended; so has each of its waits in the context.
    """
    tasks = [asyncio.create_task(follower.run()) for follower in followers]
    try:
        try:
            async with asyncio.timeout(within_seconds):
                for follower in followers:
                    await follower.wait_caught_up()
        except TimeoutError:
            raise CannotCompare(
                f"budgets, totals and signals could not be read within {within_seconds:g} s; give more --wait"
            ) from None
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
