"""A move, step by step: inspect both systems and history, then carry out the plan.

Thanks to the order of the steps, an interrupted move can simply be run again:

1. Create the topics. Nobody counts on them yet.
2. Copy the makers of objects, then the budgets, unchanged. What already exists is newer, and stays.
3. Record that the new topic follows the old one. From then on its sink stores what it reads, and
   opening balances hold what history has of the earlier ones.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from spendmeter.contract.budget import Budget
from spendmeter.contract.records import InvalidRecord, Record, decode, encode_budget
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Opening
from spendmeter.kafka.client import (
    AIOKafkaConsumer,
    KafkaError,
    TopicPartition,
    admin_client,
    consumer,
    producer,
)
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.kafka.groups import SINK_GROUP, behind, committed_by
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings, Settings
from spendmeter.topics.check import check_topics
from spendmeter.topics.create import create_topics
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter.topics.state import TopicState, lookup_topics
from spendmeter_sinks.clickhouse.plan import is_of_before_incarnations
from spendmeter_sinks.history.incarnations import Registered, UsageIncarnation
from spendmeter_sinks.history.registry import read_registered, read_unnamed_topics, register
from spendmeter_sinks.move.plan import TO_BE_MADE, CannotMove, MovePlan, Site, decide

ASK_WITHIN_SECONDS = 10.0

Raw = dict[bytes, StoredRecord]
"""The latest record of each key."""


class Move:
    """One move. `source`: the present system; `target`: the new one."""

    def __init__(
        self,
        source: ClickHouseSettings,
        target: ClickHouseSettings,
        client: Client,
        chosen: str | None = None,
    ) -> None:
        """`chosen`: see plan.decide."""
        self._source, self._target, self._client, self._chosen = source, target, client, chosen
        self._is_in_place = (source.kafka_bootstrap, source.topic_prefix) == (
            target.kafka_bootstrap,
            target.topic_prefix,
        )
        self._budgets: list[Record] = []
        self._objects: list[Record] = []

    async def plan(self) -> MovePlan:
        """Inspect, and change nothing.

        Raises:
            CannotMove: see the message.
            KafkaError, clickhouse_connect Error: the target or history cannot be read.
        """
        known = await asyncio.to_thread(read_registered, self._client)
        unnamed = await asyncio.to_thread(read_unnamed_topics, self._client)
        checked = await check_topics(self._target, list(Topic))
        target = self._site(self._target, checked.states)
        source = None if self._is_in_place else await self._source_site()
        if source is not None and source.usage == target.usage:
            raise CannotMove(f"the system is already on {target}")
        goes_on = source is not None and await self._goes_on(source)
        of = source.usage if source is not None else None
        follows, entries = decide(known, unnamed, of, goes_on, target.usage, self._chosen)
        await self._refuse_stale(target)
        budgets_from = await self._read_budgets(source, target)
        objects = await self._read_objects(source, target)
        missing = [name for topic in Topic if (name := self._target.topic(topic)) not in checked.states]
        return MovePlan(
            database=self._target.clickhouse_database,
            target=target,
            source=source,
            follows=follows,
            entries=tuple(entries),
            is_registered=any(one.of == target.usage and one.follows is not None for one in known),
            topics=tuple(missing),
            budgets=tuple(sorted(record.key.decode() for record in self._budgets)),
            budgets_from=budgets_from,
            objects=objects,
            behind=await self._behind(source),
            warnings=tuple(
                found.sentence for found in checked.findings if "there is no topic" not in found.sentence
            ),
        )

    async def apply(self, planned: MovePlan, by: str) -> None:
        """Carry out this object's plan; if interrupted, call it again.

        Raises:
            KafkaError, clickhouse_connect Error: a server cannot be reached or refuses.
        """
        await create_topics(self._target)
        await self._write(Topic.OBJECTS, self._objects)
        await self._write(Topic.BUDGETS, self._budgets)
        usage = self._target.topic(Topic.USAGE)
        state = (await lookup_topics(self._target, [usage]))[usage]
        for entry in (
            *planned.entries,
            Registered(UsageIncarnation(usage, state.incarnation), planned.follows),
        ):
            await asyncio.to_thread(register, self._client, entry, by)

    def _site(self, settings: Settings, states: dict[str, TopicState]) -> Site:
        usage = settings.topic(Topic.USAGE)
        state = states.get(usage, TopicState(TO_BE_MADE, settings.partitions))
        of = UsageIncarnation(usage, state.incarnation)
        return Site(settings.kafka_bootstrap, settings.topic_prefix, of, state.partitions)

    async def _source_site(self) -> Site | None:
        usage = self._source.topic(Topic.USAGE)
        try:
            async with asyncio.timeout(ASK_WITHIN_SECONDS):
                states = await lookup_topics(self._source, [usage])
        except (KafkaError, TimeoutError):
            return None
        return self._site(self._source, states) if usage in states else None

    async def _goes_on(self, source: Site) -> bool:
        found = await committed_by(self._source, SINK_GROUP, _partitions_of(source))
        return is_of_before_incarnations(found.values())

    async def _behind(self, source: Site | None) -> int | None:
        """The number of the source's records that history lacks."""
        if source is None:
            return None
        partitions = _partitions_of(source)
        reader: AIOKafkaConsumer = consumer(self._source)
        admin = admin_client(self._source)
        await reader.start()
        try:
            await admin.start()
            begins, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
            held = {p: end for p, end in ends.items() if end > begins[p]}
            left = await behind(admin, self._source, SINK_GROUP, held)
            return sum(int(ends[p]) - max(at, int(begins[p])) for p, at in left.items())
        finally:
            await admin.close()
            await reader.stop()

    async def _refuse_stale(self, target: Site) -> None:
        """Check that the stream's state under the target's prefix belongs to the topic that exists there."""
        if target.usage.incarnation == TO_BE_MADE:
            return
        for record in (await _read(self._target, Topic.OPENINGS)).values():
            try:
                opening = decode(Opening, record.value, record.headers)
            except InvalidRecord:
                continue
            if opening.incarnation != target.usage.incarnation:
                raise CannotMove(
                    f"the stream's state under the prefix {target.prefix!r} on {target.bootstrap} belongs to"
                    f" an earlier {target.usage.topic}: give --to-prefix with a prefix that was never used"
                )

    async def _read_budgets(self, source: Site | None, target: Site) -> str:
        """Note the budgets that the target lacks; returns where they were read."""
        there = await self._of_target(target, Topic.BUDGETS)
        if source is not None:
            found = [_as_written(r) for r in (await _read(self._source, Topic.BUDGETS)).values()]
            origin = f"{self._source.topic(Topic.BUDGETS)} on {source.bootstrap}"
        else:
            found = [encode_budget(one) for one in await asyncio.to_thread(self._budgets_of_history)]
            origin = f"history, table budgets_now of {self._target.clickhouse_database}"
        self._budgets = [one for one in found if _is_newer(one, there.get(one.key))]
        return origin

    def _budgets_of_history(self) -> Iterable[Budget]:
        for (definition,) in self._client.query("SELECT definition FROM budgets_now ORDER BY id").result_rows:
            try:
                yield decode(Budget, definition.encode())
            except InvalidRecord:
                continue  # written by a version that allowed what this one does not

    async def _read_objects(self, source: Site | None, target: Site) -> int | None:
        if source is None:
            return None
        there = await self._of_target(target, Topic.OBJECTS)
        found = await _read(self._source, Topic.OBJECTS)
        self._objects = [_as_written(record) for key, record in found.items() if key not in there]
        return len(self._objects)

    async def _of_target(self, target: Site, topic: Topic) -> Raw:
        return {} if target.usage.incarnation == TO_BE_MADE else await _read(self._target, topic)

    async def _write(self, topic: Topic, records: Iterable[Record]) -> None:
        kafka = producer(self._target)
        await kafka.start()
        try:
            name = self._target.topic(topic)
            await asyncio.gather(
                *[await kafka.send(name, **record._asdict(), partition=0) for record in records]
            )
        finally:
            await kafka.stop()


def _partitions_of(site: Site) -> list[TopicPartition]:
    return [TopicPartition(site.usage.topic, number) for number in range(site.partitions)]


async def _read(settings: Settings, topic: Topic) -> Raw:
    """The current records of the compacted topic."""
    latest: Raw = {}

    def on_record(record: StoredRecord) -> None:
        if record.value is None:
            latest.pop(record.key or b"", None)
        else:
            latest[record.key or b""] = record

    await CompactedTopics(settings, [settings.topic(topic)], on_record).read_to_end()
    return latest


def _as_written(record: Any) -> Record:
    return Record(record.key or b"", record.value, list(record.headers))


def _is_newer(budget: Record, there: StoredRecord | None) -> bool:
    """Whether the target lacks this budget, or has an earlier revision of it."""
    if there is None:
        return True
    try:
        return decode(Budget, budget.value).revision > decode(Budget, there.value, there.headers).revision
    except InvalidRecord:
        return False
