"""The edge to ClickHouse: what the comparison asks of history. Answers are bounded, or streams of blocks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, NamedTuple
from uuid import UUID

from clickhouse_connect.driver.client import Client

from sinks.reconcile.eras import Revision
from sinks.reconcile.sequences import Range
from spendmeter.contract.budget import Budget, Dimension
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.times import EPOCH, from_unix_us, to_unix_us

MAX_ROWS_PER_READ = 500_000
"""Rows that one query may answer with where an hour has no more: a server may hold an answer whole."""
MAX_RANGES = 10_000
MAX_CONFLICTS = 100
MAX_ASKED = 1_000
_MAX_BYTES_IN_MEMORY = 256 * 1024 * 1024
_HOUR = timedelta(hours=1)
Values = tuple[Any, ...]
"""Of the dimensions that were asked for, in their order; tags as a tuple."""


class Recorded(NamedTuple):
    """What history has of one producer."""

    producer_id: str
    rows: int
    """Copies that are not merged yet included."""
    seqs: int
    """Different ones."""
    highest: int


class Conflict(NamedTuple):
    producer_id: str
    seq: int
    event_ids: tuple[UUID, ...]
    costs_nanousd: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of occurred_at, `[start, end)`; None has no bound."""

    start: datetime | None
    end: datetime | None

    def sql(self) -> str:
        """As a condition on rows of usage."""
        conditions = ["1"]
        if self.start is not None:
            conditions.append(f"occurred_at >= {_moment(self.start)}")
        if self.end is not None:
            conditions.append(f"occurred_at < {_moment(self.end)}")
        return " AND ".join(conditions)


class History:
    """One database and the rows of one topic in it. Blocking: call it from a thread."""

    def __init__(self, client: Client, usage_topic: str) -> None:
        self._client = client
        self._topic = usage_topic

    def recorded(self) -> list[Recorded]:
        """Every producer with how far its sequence has come."""
        rows = self._query(
            "SELECT producer_id, count(), groupBitmap(seq), max(seq) FROM usage"
            " WHERE topic = {topic:String} GROUP BY producer_id ORDER BY producer_id"
        )
        return [Recorded(*row) for row in rows]

    def gaps(self, producers: Sequence[str]) -> dict[str, list[Range]]:
        """What the producers' sequences lack below their highest: the first MAX_RANGES ranges."""
        rows = self._query(
            "SELECT producer_id, before + 1, seq - 1 FROM (SELECT producer_id, seq,"
            " lagInFrame(seq, 1, 0) OVER (PARTITION BY producer_id ORDER BY seq"
            " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before"
            " FROM usage WHERE topic = {topic:String} AND producer_id IN {producers:Array(String)})"
            f" WHERE seq > before + 1 ORDER BY producer_id, seq LIMIT {MAX_RANGES}"
            f" SETTINGS max_bytes_before_external_sort = {_MAX_BYTES_IN_MEMORY}",
            producers=list(producers),
        )
        found: dict[str, list[Range]] = {}
        for producer_id, first, last in rows:
            found.setdefault(producer_id, []).append(Range(first, last))
        return found

    def conflicts(self, producers: Sequence[str]) -> list[Conflict]:
        """The first MAX_CONFLICTS sequence numbers that stand for several events."""
        rows = self._query(
            "SELECT producer_id, seq, groupUniqArray(10)(event_id), groupUniqArray(10)(cost_nanousd)"
            # Of two corrections that were made at once the first counts, by design (spendmeter.correction).
            " FROM usage WHERE topic = {topic:String} AND producer_id IN {producers:Array(String)}"
            " AND kind = 'usage' GROUP BY producer_id, seq"
            " HAVING min(event_id) != max(event_id) OR min(cost_usd) != max(cost_usd)"
            # Copies that differ in these would never be merged.
            " OR min(occurred_at) != max(occurred_at) OR min(key) != max(key)"
            f" ORDER BY producer_id, seq LIMIT {MAX_CONFLICTS}"
            f" SETTINGS max_bytes_before_external_group_by = {_MAX_BYTES_IN_MEMORY}",
            producers=list(producers),
        )
        return [Conflict(p, seq, tuple(ids), tuple(costs)) for p, seq, ids, costs in rows]

    def count(self, bounds: Mapping[int, int]) -> tuple[int, int]:
        """Events up to those offsets, each once, and the nano-USD that they add up to."""
        ((events, nanousd),) = self._query(
            "SELECT count(), sum(toInt128(cost_nanousd)) FROM usage FINAL"
            f" WHERE topic = {{topic:String}} AND {_up_to(bounds)}"
        )
        return events, nanousd

    def letters(self) -> Iterator[DeadLetter]:
        """Every dead letter of the topic."""
        names = list(DeadLetter.model_fields)
        columns = [f"concat(toString({n}), 'Z')" if n == "failed_at" else n for n in names]
        for row in self._stream(
            f"SELECT {', '.join(columns)} FROM dead_letters FINAL WHERE source_topic = {{topic:String}}"
            " ORDER BY source_partition, source_offset",
            plain=len(names),
        ):
            yield DeadLetter.model_validate(dict(zip(names, row, strict=False)))

    def revisions(self) -> list[Revision]:
        """Every record of spend.budgets, in order."""
        rows = self._query(
            "SELECT id, removed, definition, toUnixTimestamp64Milli(stored_at) FROM budgets FINAL"
            " ORDER BY appended_at, offset"
        )
        revisions = []
        for budget_id, removed, definition, stored_ms in rows:
            try:
                budget = None if removed else decode(Budget, definition.encode())
            except InvalidRecord:
                continue  # written by a version that allowed what this one does not
            revisions.append(Revision(budget_id, budget, from_unix_us(stored_ms * 1000)))
        return revisions

    def slices(self, span: Span) -> list[Span]:
        """The span cut so that each piece has about MAX_ROWS_PER_READ rows; an hour is never cut."""
        rows = self._query(
            "SELECT toInt64(toUnixTimestamp(toStartOfHour(occurred_at))) AS hour, count() FROM usage"
            f" WHERE topic = {{topic:String}} AND {span.sql()} GROUP BY hour ORDER BY hour"
        )
        return cut((EPOCH + timedelta(seconds=second), count) for second, count in rows)

    def rows(
        self, dimensions: Sequence[Dimension], span: Span, bounds: Mapping[int, int]
    ) -> Iterator[tuple[int, int, int, int, int, Values]]:
        """First copies: partition, offset, occurred_at and appended_at in µs, nano-USD, values."""
        yield from self._stream(
            "SELECT partition, offset, toUnixTimestamp64Micro(occurred_at),"
            f" toUnixTimestamp64Milli(appended_at) * 1000, cost_nanousd{_columns(dimensions)}"
            f" FROM usage FINAL WHERE topic = {{topic:String}} AND {span.sql()} AND {_up_to(bounds)}",
            plain=5,
        )

    def flats(
        self, dimensions: Sequence[Dimension], span: Span, bounds: Mapping[int, int]
    ) -> Iterator[tuple[int, int, int, int, int, Values]]:
        """As `rows`, those of unpriced requests only, with `flats_of` the event in place of nano-USD."""
        yield from self._stream(
            "SELECT partition, offset, toUnixTimestamp64Micro(occurred_at),"
            f" toUnixTimestamp64Milli(appended_at) * 1000, if(kind = 'usage', 1, -1){_columns(dimensions)}"
            f" FROM usage FINAL WHERE topic = {{topic:String}} AND {span.sql()} AND {_up_to(bounds)}"
            " AND cost_source = 'unpriced' AND status = 'success'",
            plain=5,
        )

    def events(
        self, dimensions: Sequence[Dimension], span: Span, partition: int, first: int, last: int
    ) -> Iterator[tuple[UUID, int, int, int, Values]]:
        """First copies in one stretch of offsets: event id, offset, occurred_at in µs, nano-USD, values."""
        yield from self._stream(
            "SELECT event_id, offset, toUnixTimestamp64Micro(occurred_at), cost_nanousd"
            f"{_columns(dimensions)} FROM usage FINAL WHERE topic = {{topic:String}} AND {span.sql()}"
            f" AND partition = {partition:d} AND offset BETWEEN {first:d} AND {last:d}",
            plain=4,
        )

    def having(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """Which of the events history has; of more than MAX_ASKED, the first are asked for."""
        if not event_ids:
            return set()
        rows = self._query(
            "SELECT DISTINCT event_id FROM usage"
            " WHERE topic = {topic:String} AND event_id IN {ids:Array(UUID)}",
            ids=[str(event_id) for event_id in event_ids[:MAX_ASKED]],
        )
        return {event_id for (event_id,) in rows}

    def _query(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self._client.query(
            sql, parameters={"topic": self._topic, **parameters}
        ).result_rows
        return rows

    def _stream(self, sql: str, plain: int) -> Iterator[Any]:
        """Rows, a block at a time: the first columns as they are, the others together as one tuple."""
        stream = self._client.query_column_block_stream(sql, parameters={"topic": self._topic})
        with stream as blocks:
            for block in blocks:
                columns = [
                    list(map(tuple, column)) if column and isinstance(column[0], list) else column
                    for column in block
                ]
                values = zip(*columns[plain:], strict=True) if columns[plain:] else repeat(())
                yield from zip(*columns[:plain], values, strict=False)


def cut(hours: Iterable[tuple[datetime, int]], at_most: int = MAX_ROWS_PER_READ) -> list[Span]:
    """Whole hours with their row counts, rising, as spans of at most that many rows or one hour."""
    spans: list[Span] = []
    held = 0
    for hour, count in hours:
        if spans and held + count <= at_most:
            spans[-1] = Span(spans[-1].start, hour + _HOUR)
            held += count
        else:
            spans.append(Span(hour, hour + _HOUR))
            held = count
    return spans


def _up_to(bounds: Mapping[int, int]) -> str:
    """As a condition: rows of those partitions, up to those offsets, both included."""
    if not bounds:
        return "0"
    ends = [bounds.get(partition, -1) + 1 for partition in range(max(bounds) + 1)]
    return f"offset < {ends}[partition + 1]"


def _columns(dimensions: Sequence[Dimension]) -> str:
    return "".join(f", `{'tags' if dimension == 'tag' else dimension}`" for dimension in dimensions)


def _moment(time: datetime) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({to_unix_us(time)}), 'UTC')"
