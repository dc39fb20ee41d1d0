"""One comparison, from the watermark to the report.

Thanks to the order of the steps, a live system raises no false alarm:

1. Note the budgets, then the end of spend.usage: the watermark. Wait until the stream has passed it.
2. Wait until each budget has its opening balance. Note the totals at that moment. Some are past the
   watermark by then, so history is needed up to the furthest. Wait until it has passed that, and has every
   budget and dead letter.
3. Recount history, each component over exactly the offsets that it covers.
4. Search for gaps. Search again for what is missing once history has passed everything that was in
   Kafka after the gap was seen; only what is still missing then is a loss.
5. Wait until the judge has passed those totals; compare each signal at its own watermark.
6. Leave out budgets that were changed meanwhile, find evidence for the rest, report.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic

from spendmeter.contract.budget import Budget
from spendmeter.contract.topics import Topic
from spendmeter.domain.matching import BudgetBook
from spendmeter.kafka.client import TopicPartition
from spendmeter.kafka.compacted import ReaderEnded
from spendmeter.kafka.groups import SINK_GROUP, STREAM_GROUP
from spendmeter.runtime.clickhouse import Client
from spendmeter.settings import ClickHouseSettings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.signals import SignalTopic
from spendmeter.topics.state import lookup_topics
from spendmeter_sinks.history.dead_letters import DeadLetterScan, scan_dead_letters
from spendmeter_sinks.history.incarnations import UsageIncarnation, lineage_of
from spendmeter_sinks.history.registry import read_registered
from spendmeter_sinks.history.usage_rows import TimeRange, needed_dimensions
from spendmeter_sinks.reconcile.find import Finder
from spendmeter_sinks.reconcile.gaps import SETTLE_SECONDS, find_losses
from spendmeter_sinks.reconcile.history import History
from spendmeter_sinks.reconcile.kafka_reader import (
    CannotCompare,
    FollowedTotals,
    KafkaReader,
    following,
)
from spendmeter_sinks.reconcile.replay import Replay, has_flats
from spendmeter_sinks.reconcile.report import Report
from spendmeter_sinks.reconcile.scope import Scope, WindowFilter, counting_periods, replaced_until, shape_of
from spendmeter_sinks.reconcile.signals import SignalCheck, compare_signals
from spendmeter_sinks.reconcile.summary import Findings, summarise
from spendmeter_sinks.reconcile.totals import ComparedWindow, Components, in_present_shape

POLL_SECONDS = 0.25

_STREAM, _SINK = "the stream", "history (the ClickHouse sink)"


async def reconcile(
    settings: ClickHouseSettings,
    client: Client,
    chosen: WindowFilter,
    now: datetime,
    wait_seconds: float,
    settle_seconds: float = SETTLE_SECONDS,
) -> Report:
    """Compare a system that may be running under load. `wait_seconds` bounds each wait.

    Raises:
        CannotCompare: something to compare is missing, or did not arrive in time.
        KafkaError, clickhouse_connect Error: a server cannot be reached.
    """
    budgets, totals, signals = BudgetTopic(settings), FollowedTotals(settings), SignalTopic(settings)
    usage = settings.topic(Topic.USAGE)
    async with KafkaReader(settings) as positions:
        await positions.ends(Topic.USAGE)
        state = (await lookup_topics(settings, [usage]))[usage]
        known = await asyncio.to_thread(read_registered, client)
        history = History(client, usage, lineage_of(UsageIncarnation(usage, state.incarnation), known))
        try:
            async with following(wait_seconds, budgets, totals, signals):
                comparison = _Comparison(settings, history, positions, budgets, totals, signals, wait_seconds)
                return await comparison.run(chosen, now, settle_seconds)
        except ReaderEnded as error:
            raise CannotCompare(f"{error}; this is a bug of ours, please report it") from error


class _Comparison:
    def __init__(
        self,
        settings: ClickHouseSettings,
        history: History,
        positions: KafkaReader,
        budgets: BudgetTopic,
        totals: FollowedTotals,
        signals: SignalTopic,
        wait_seconds: float,
    ) -> None:
        self._settings = settings
        self._history = history
        self._positions = positions
        self._budgets = budgets
        self._totals = totals
        self._signals = signals
        self._wait_seconds = wait_seconds

    async def run(self, chosen: WindowFilter, now: datetime, settle_seconds: float) -> Report:
        """All the steps."""
        begun = monotonic()
        await self._budgets.catch_up()
        book = BudgetBook(self._budgets.book)
        ends = await self._positions.ends(Topic.USAGE)
        watermark = {tp.partition: end - 1 for tp, end in ends.items()}
        await self._passed(STREAM_GROUP, ends, _STREAM)
        await self._totals.catch_up()
        await self._wait_for_openings(book)
        components = in_present_shape(self._totals.totals.mark(), book, self._totals.totals)
        totals_ends = await self._positions.ends(Topic.TOTALS)
        scope = await self._scope(book, chosen, now)
        furthest = await self._positions.ends(Topic.USAGE)
        recount = Replay(
            scope,
            components,
            watermark,
            {tp.partition: end for tp, end in furthest.items()},
            self._totals.totals.opened_at_mark,
            now,
        )
        letters = await self._history_passes(recount)
        recounting = monotonic()
        await asyncio.to_thread(self._recount, recount, letters)
        recounted = monotonic()
        recorded = await asyncio.to_thread(self._history.count, watermark)
        losses = await find_losses(self._history, letters, self._sink_passes_all, settle_seconds)
        await self._passed(STREAM_GROUP, totals_ends, _STREAM)
        checked = await self._check_signals(components, scope)
        changed = changed_since(book, self._budgets.book)
        differing = [d for d in recount.differing() if d.where.budget_id not in changed]
        evidence = await Finder(self._history, self._positions, book).find(differing)
        return summarise(
            Findings(
                checked_at=now,
                watermark=watermark,
                components=components,
                scope=scope,
                recount=recount,
                letters=letters,
                recorded=recorded,
                losses=losses,
                check=checked,
                changed=changed,
                evidence=evidence,
                seconds=monotonic() - begun,
                recount_seconds=recounted - recounting,
            )
        )

    async def _wait_for_openings(self, book: BudgetBook) -> None:
        """Wait until each budget has its opening balance, or the time is over; the report says which."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds
        while True:
            await self._totals.catch_up()
            now = datetime.now(UTC)
            windows = [(budget.id, book.window_of(budget, now)) for budget in book]
            is_owed = any(
                window is not None
                and self._totals.totals.opened(ComparedWindow(f"{name}|", window.start)) is None
                for name, window in windows
            )
            if not is_owed or clock() >= deadline:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _passed(self, group: str, ends: Mapping[TopicPartition, int], who: str) -> None:
        await self._positions.wait_until_passed(group, ends, self._wait_seconds, who)

    async def _sink_passes_all(self) -> DeadLetterScan:
        """Return the dead letters once history has everything that is in Kafka now."""
        # A record's dead letter is in its topic before the sink commits the record itself.
        await self._passed(SINK_GROUP, await self._positions.ends(Topic.USAGE), _SINK)
        await self._passed(SINK_GROUP, await self._positions.ends(Topic.DEAD_LETTERS), _SINK)
        return await self._read_dead_letters()

    async def _read_dead_letters(self) -> DeadLetterScan:
        letters = await asyncio.to_thread(lambda: list(self._history.letters()))
        return scan_dead_letters(letters, self._settings.topic(Topic.USAGE))

    async def _scope(self, book: BudgetBook, chosen: WindowFilter, now: datetime) -> Scope:
        await self._passed(SINK_GROUP, await self._positions.ends(Topic.BUDGETS), _SINK)
        revisions = await asyncio.to_thread(self._history.revisions)
        return Scope(book, counting_periods(revisions), replaced_until(revisions), chosen, now)

    async def _history_passes(self, recount: Replay) -> DeadLetterScan:
        """Wait until history has every row that the recount needs."""
        name = self._settings.topic(Topic.USAGE)
        furthest = {
            TopicPartition(name, p): last + 1 for p, last in recount.bounds().items() if p >= 0 and last >= 0
        }
        await self._passed(SINK_GROUP, furthest, _SINK)
        await self._passed(SINK_GROUP, await self._positions.ends(Topic.DEAD_LETTERS), _SINK)
        return await self._read_dead_letters()

    def _recount(self, recount: Replay, letters: DeadLetterScan) -> None:
        """Blocking."""
        if not len(recount.scope.book):
            return
        dimensions, bounds = needed_dimensions(recount.scope.book), recount.bounds()
        flats = has_flats(recount.scope.book)
        for piece in self._history.slices(TimeRange(*recount.scope.span())):
            recount.add(self._history.rows(dimensions, piece, bounds))
            if flats:
                recount.add_flats(self._history.flats(dimensions, piece, bounds))
        recount.add(letters.rows(dimensions))
        recount.add_flats(letters.flats(dimensions))
        if recount.may_count_free_events:
            for piece in self._history.slices(TimeRange(*recount.scope.span())):
                recount.add_free(self._history.free(dimensions, piece, bounds))

    async def _check_signals(self, components: Components, scope: Scope) -> SignalCheck:
        """Compare until every signal has followed its totals; the judge may wait a second before it emits."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_seconds
        while True:
            # In this order, every total that a signal rests on is known.
            await self._signals.catch_up()
            signals = dict(self._signals.signals)
            await self._totals.catch_up()
            checked = compare_signals(signals, self._totals.totals, components, scope, datetime.now(UTC))
            if not any(mismatch.may_follow for mismatch in checked.mismatches) or clock() >= deadline:
                return checked
            await asyncio.sleep(POLL_SECONDS)


def changed_since(before: BudgetBook, now: BudgetBook) -> frozenset[str]:
    """The budgets that count something else now than before, or are replaced by one that does."""
    ids = {budget.id for budget in (*before, *now)}
    pairs = [(before.get(budget_id), now.get(budget_id)) for budget_id in ids]
    changed = [(one, other) for one, other in pairs if _counts(one) != _counts(other)]
    return frozenset(
        name for pair in changed for budget in pair if budget for name in (budget.id, budget.replaces) if name
    )


def _counts(budget: Budget | None) -> tuple[str, str | None] | None:
    return (shape_of(budget), budget.replaces) if budget else None
