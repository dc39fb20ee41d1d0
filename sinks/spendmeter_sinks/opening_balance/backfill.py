"""The edge: adds up opening balances from history, one round for all budgets that need one.

    1. select    budgets that the stream counts in every partition and that lack their balance
    2. wait      until the sink has committed past every offset that they need
    3. add up    the rows of history below those offsets, in memory-bounded pieces
    4. publish   a total per account; then, in every partition of spend.totals, a record that closes them
    5. note      on spend.openings that it is done

A crash in between leads to a repetition: readers recognise the same totals. Two backfills at once
publish the same twice.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from time import monotonic

from prometheus_client import Counter, Gauge
from urllib3.exceptions import HTTPError

from spendmeter.contract.budget import Budget
from spendmeter.contract.records import InvalidRecord, decode, encode_opening, encode_total
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.domain.matching import BudgetBook
from spendmeter.kafka.client import AIOKafkaProducer, KafkaError, TopicPartition, partition_of, producer
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.kafka.groups import SINK_GROUP, committed_by
from spendmeter.runtime.clickhouse import Error, reader, render_error
from spendmeter.topics.budgets import BudgetTopic
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.history.dead_letters import scan_dead_letters
from spendmeter_sinks.history.incarnations import Lineage
from spendmeter_sinks.history.usage_rows import UsageRows
from spendmeter_sinks.opening_balance.balance import Balances
from spendmeter_sinks.opening_balance.pending_backfills import (
    BackfillRequest,
    PendingBackfills,
    closing_key,
    closing_of,
    is_covered,
)

log = logging.getLogger(__name__)

BACKFILLED = Counter("spendmeter_openings_taken_total", "Opening balances read from history.")
WAITING = Gauge("spendmeter_openings_waiting", "Budgets that wait for their opening balance.")

POLL_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 10.0
EARLIER_EVERY_SECONDS = 1.0
EARLIER_PAUSES = 2
"""The pause before a query or a sum is repeated, as a multiple of its duration."""
QUERY_WITHIN_SECONDS = 300
MAX_IN_FLIGHT = 1_000
SAY_WAITING_EVERY_SECONDS = 60.0
MAX_NAMED = 10
"""Budgets in one line of the log."""


class Backfill:
    """Runs beside the sink in every worker; only the one that `is_in_charge` does anything."""

    def __init__(
        self,
        settings: SinkSettings,
        is_in_charge: Callable[[], bool],
        lineage: Callable[[], Lineage | None],
    ) -> None:
        """`lineage`: the one that rows of usage belong to; None while it is not settled."""
        self._settings = settings
        self._is_in_charge = is_in_charge
        self._lineage = lineage
        self._earlier_of: Lineage | None = None
        self._earlier_due = 0.0
        self._pending = PendingBackfills()
        self._removed: set[str] = set()
        self._said_at = monotonic()
        self._budgets = BudgetTopic(settings, self._on_budget)
        self._openings = CompactedTopics(settings, [settings.topic(Topic.OPENINGS)], self._on_opening)
        self._kafka: AIOKafkaProducer = producer(settings)

    def _on_budget(self, budget_id: str, budget: Budget | None) -> None:
        if budget is None:
            self._pending.forget(budget_id)
            self._removed.add(budget_id)

    def _on_opening(self, record: FetchedRecord) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._pending.apply(key, None)
            return
        try:
            self._pending.apply(key, decode(Opening, record.value, record.headers))
        except InvalidRecord as invalid:
            log.warning("spend.openings offset %d is no opening, ignored: %s", record.offset, invalid)

    @property
    def last_answer(self) -> float | None:
        """See `CompactedTopics.last_answer`."""
        return self._budgets.last_answer

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        await self._start(stop)
        readers = [asyncio.create_task(self._budgets.run()), asyncio.create_task(self._openings.run())]
        work = asyncio.create_task(self._follow())
        stopped = asyncio.create_task(stop.wait())
        tasks = [*readers, work, stopped]
        try:
            # The reader and the work end only by a bug, which must stop the process.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._kafka.stop()

    async def _start(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._kafka.start()
                return
            except KafkaError as error:
                log.warning("cannot reach Kafka, trying again: %r", error)
            await asyncio.sleep(LONGEST_BACKOFF_SECONDS / 10)

    async def _follow(self) -> None:
        await self._budgets.caught_up.wait()
        await self._openings.caught_up.wait()
        pause = POLL_SECONDS
        while True:
            await asyncio.sleep(pause)
            lineage = self._lineage()
            if lineage is None or not self._is_in_charge():
                WAITING.set(0)
                self._said_at = monotonic()
                continue
            try:
                await self._round(lineage)
                pause = POLL_SECONDS
            except (KafkaError, Error, HTTPError) as error:
                pause = min(pause * 2, LONGEST_BACKOFF_SECONDS)
                log.warning("opening balances wait, next try in %g s: %s", pause, render_error(error))

    async def _round(self, lineage: Lineage) -> None:
        self._pending.incarnation = lineage.current[0].incarnation
        await self._read_earlier(lineage)
        await self._publish_removed()
        partitions = sorted(await self._kafka.partitions_for(self._settings.topic(Topic.USAGE)))
        waiting = self._pending.waiting(self._budgets.book, partitions)
        WAITING.set(waiting)
        if not waiting:
            self._said_at = monotonic()
            return
        committed = await self._committed(partitions)
        self._say_waiting(waiting, partitions, committed)
        requests = [
            due for due in self._pending.due(self._budgets.book, partitions) if is_covered(due, committed)
        ]
        if not requests:
            return
        balances = Balances(requests, BudgetBook(self._budgets.book), datetime.now(UTC))
        begun = monotonic()
        await asyncio.to_thread(self._add_up, balances, lineage)
        await self._publish(balances, requests)
        # Late events of earlier incarnations are added up repeatedly, but not most of the time.
        self._earlier_due = max(self._earlier_due, monotonic() + EARLIER_PAUSES * (monotonic() - begun))

    async def _read_earlier(self, lineage: Lineage) -> None:
        """Check how much history has of earlier incarnations, to which others may still write."""
        if lineage == self._earlier_of and monotonic() < self._earlier_due:
            return
        begun = monotonic()
        self._pending.earlier = await asyncio.to_thread(self._earlier, lineage) if lineage.earlier else 0
        self._earlier_of = lineage
        self._earlier_due = monotonic() + max(EARLIER_EVERY_SECONDS, EARLIER_PAUSES * (monotonic() - begun))

    def _earlier(self, lineage: Lineage) -> int:
        """Blocking."""
        client = reader(self._settings, at_least_seconds=QUERY_WITHIN_SECONDS)
        try:
            return UsageRows(client, self._settings.topic(Topic.USAGE), lineage).earlier()
        finally:
            client.close()

    def _say_waiting(self, waiting: int, partitions: Sequence[int], committed: Mapping[int, int]) -> None:
        """Log what budgets wait for, after the first minute and then every minute."""
        if monotonic() - self._said_at < SAY_WAITING_EVERY_SECONDS:
            return
        self._said_at = monotonic()
        reasons = dict(islice(self._pending.reasons(self._budgets.book, partitions, committed), MAX_NAMED))
        log.warning(
            "%d budgets wait for their opening balance; until then their signals say `opening` and lack what"
            " was spent before they were counted: %s%s",
            waiting,
            "; ".join(f"{budget_id}: {reason}" for budget_id, reason in reasons.items()),
            "; …" if waiting > len(reasons) else "",
        )

    async def _publish_removed(self) -> None:
        removed = self._removed | set(self._pending.gone(self._budgets.book))
        for budget_id in removed:
            topic = self._settings.topic(Topic.OPENINGS)
            await self._kafka.send_and_wait(
                topic, key=closing_key(budget_id).encode(), value=None, partition=0
            )
            self._pending.forget(budget_id)
        self._removed -= removed

    async def _committed(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Source partition: the offset up to which history holds everything. Partitions without a commit of
        the sink are left out.
        """
        name = self._settings.topic(Topic.USAGE)
        found = await committed_by(self._settings, SINK_GROUP, [TopicPartition(name, p) for p in partitions])
        return {tp.partition: at.offset for tp, at in found.items()}

    def _add_up(self, balances: Balances, lineage: Lineage) -> None:
        """Blocking."""
        # Spill to the server's disk: a refused opening balance would be missing for good.
        limits = {"max_memory_usage": 0}
        client = reader(self._settings, at_least_seconds=QUERY_WITHIN_SECONDS, limits=limits, compress="lz4")
        try:
            topic = self._settings.topic(Topic.USAGE)
            rows = UsageRows(client, topic, lineage)
            dimensions, bounds = balances.dimensions, balances.bounds
            for piece in rows.slices(balances.span):
                balances.add(rows.rows(dimensions, piece, bounds))
                if balances.has_flats:
                    balances.add_flats(rows.flats(dimensions, piece, bounds))
            # The stream would have counted what history refused.
            letters = scan_dead_letters(rows.letters(), topic)
            balances.add(letters.rows(dimensions))
            balances.add_flats(letters.flats(dimensions))
        finally:
            client.close()

    async def _publish(self, balances: Balances, requests: Sequence[BackfillRequest]) -> None:
        now, topic = datetime.now(UTC), self._settings.topic(Topic.TOTALS)
        placed = sorted(await self._kafka.partitions_for(topic))
        accounts = await self._send(
            (partition_of(total.account, len(placed)), total) for total in balances.totals()
        )
        # After the totals, in each partition: whoever reads it has read the budget's totals there.
        await self._send((partition, total) for total in balances.closings() for partition in placed)
        for due in requests:
            record = encode_opening(closing_of(due), now)
            await self._kafka.send_and_wait(
                self._settings.topic(Topic.OPENINGS), **record._asdict(), partition=0
            )
        BACKFILLED.inc(len(requests))
        names = ", ".join(due.budget.id for due in requests[:10])
        log.info("opening balances of %d budgets (%s): %d accounts", len(requests), names, accounts)

    async def _send(self, totals: Iterable[tuple[int, Total]]) -> int:
        """Store totals, each in its partition; returns their number once the brokers have them."""
        now, topic, count = datetime.now(UTC), self._settings.topic(Topic.TOTALS), 0
        waiting = []
        for partition, total in totals:
            record = encode_total(total, now)
            waiting.append(await self._kafka.send(topic, **record._asdict(), partition=partition))
            count += 1
            if len(waiting) >= MAX_IN_FLIGHT:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
        return count
