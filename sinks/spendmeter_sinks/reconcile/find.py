"""Finds the events behind a component that does not agree: reads them again from Kafka and from history."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from spendmeter.domain.matching import BudgetBook, Subject, subject_of
from spendmeter.values.times import from_unix_us
from spendmeter_sinks.history.usage_rows import TimeRange, needed_dimensions, subject_from
from spendmeter_sinks.reconcile.history import History
from spendmeter_sinks.reconcile.kafka_reader import KafkaReader
from spendmeter_sinks.reconcile.replay import NEVER, ComparedComponent, Differing


class FirstCopy(NamedTuple):
    """The first copy of an event."""

    offset: int
    cost_nanousd: int


Copies = Mapping[UUID, FirstCopy]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The events that differ, by what is wrong with them."""

    missing_in_history: tuple[UUID, ...] = ()
    """Kafka has them."""
    altered_in_history: tuple[UUID, ...] = ()
    """History has another amount than Kafka."""
    unknown_to_kafka: tuple[UUID, ...] = ()
    """History has them at offsets at which Kafka has something else."""
    suspects: tuple[UUID, ...] = ()
    """If Kafka and history agree, the stream is wrong: events that alone would explain it, or else all."""


def first_copies(copies: Iterable[tuple[UUID, FirstCopy]]) -> dict[UUID, FirstCopy]:
    """For each event the copy with the lowest offset."""
    first: dict[UUID, FirstCopy] = {}
    for event_id, copy in copies:
        known = first.get(event_id)
        if known is None or copy.offset < known.offset:
            first[event_id] = copy
    return first


def weigh(lane: ComparedComponent, in_kafka: Copies, in_history: Copies, kafka_from: int) -> Evidence:
    """Name the events behind a component that does not agree. `kafka_from`: the first offset read."""
    missing = _by_offset({e: c for e, c in in_kafka.items() if e not in in_history})
    altered = _by_offset(
        {e: c for e, c in in_history.items() if e in in_kafka and in_kafka[e].cost_nanousd != c.cost_nanousd}
    )
    unknown = _by_offset(
        {e: c for e, c in in_history.items() if e not in in_kafka and c.offset >= kafka_from}
    )
    if missing or altered or unknown:
        return Evidence(missing, altered, unknown)
    claimed = lane.claimed.spent_nanousd if lane.claimed else 0
    alone = {e: c for e, c in in_history.items() if c.cost_nanousd == abs(claimed - lane.spent_nanousd)}
    return Evidence(suspects=_by_offset(alone or in_history))


def _by_offset(copies: Copies) -> tuple[UUID, ...]:
    return tuple(sorted(copies, key=lambda event_id: copies[event_id].offset))


MAX_WEIGHED = 20
"""Components whose events are read; beyond this number a report names only amounts."""
MAX_RECORDS_READ = 200_000
"""Events of one partition: the last ones of the differing range."""


class _Met(NamedTuple):
    """An event as one side has it."""

    event_id: UUID
    copy: FirstCopy
    occurred_at: datetime
    subject: Subject


class Finder:
    """Searches for evidence, one partition at a time."""

    def __init__(self, history: History, positions: KafkaReader, book: BudgetBook) -> None:
        self._history = history
        self._positions = positions
        self._book = book

    async def find(self, differing: Sequence[Differing]) -> dict[tuple[str, datetime, int], Evidence]:
        """Evidence for the first MAX_WEIGHED, by account, window start and partition."""
        found: dict[tuple[str, datetime, int], Evidence] = {}
        few = sorted(differing[:MAX_WEIGHED], key=lambda one: one.partition)
        for partition, of_partition in groupby(few, key=lambda one: one.partition):
            lanes = list(of_partition)
            last = max(one.lane.until_offset for one in lanes)
            first = max(min(_first(one.lane) for one in lanes), last - MAX_RECORDS_READ + 1)
            first = max(first, await self._positions.first_usage_offset(partition))
            in_kafka = [
                _Met(
                    event.event_id,
                    FirstCopy(offset, event.cost_nanousd),
                    event.occurred_at,
                    subject_of(event),
                )
                async for offset, event in self._positions.usage(partition, first, last)
            ]
            for one in lanes:
                found[(*one.where, partition)] = await asyncio.to_thread(self._weigh, one, in_kafka, first)
        return found

    def _weigh(self, one: Differing, in_kafka: Sequence[_Met], kafka_from: int) -> Evidence:
        budget = self._book.get(one.where.budget_id)
        assert budget is not None, "only accounts of budgets in force are compared"
        window = self._book.window_of(budget, one.where.window_start)
        assert window is not None, "only windows of the budget's shape are compared"
        span = TimeRange(window.start, window.end)
        kafka = first_copies((m.event_id, m.copy) for m in in_kafka if self._is_of(one, m, span))
        history = first_copies(
            (m.event_id, m.copy) for m in self._in_history(one, span) if self._is_of(one, m, span)
        )
        # A first copy below the range is in history under its own offset.
        elsewhere = self._history.having([event_id for event_id in kafka if event_id not in history])
        return weigh(one.lane, {e: c for e, c in kafka.items() if e not in elsewhere}, history, kafka_from)

    def _in_history(self, one: Differing, span: TimeRange) -> Iterator[_Met]:
        dimensions = needed_dimensions(self._book)
        for event_id, offset, occurred_us, cost, values in self._history.events(
            dimensions, span, one.partition, _first(one.lane), one.lane.until_offset
        ):
            yield _Met(
                event_id, FirstCopy(offset, cost), from_unix_us(occurred_us), subject_from(dimensions, values)
            )

    def _is_of(self, one: Differing, met: _Met, span: TimeRange) -> bool:
        if not _first(one.lane) <= met.copy.offset <= one.lane.until_offset:
            return False
        if span.start is not None and met.occurred_at < span.start:
            return False
        if span.end is not None and met.occurred_at >= span.end:
            return False
        return any(account.name == one.where.account for account in self._book.accounts_of(met.subject))


def _first(lane: ComparedComponent) -> int:
    """Without an opening, all offsets are searched."""
    return 0 if lane.first_offset == NEVER else lane.first_offset
