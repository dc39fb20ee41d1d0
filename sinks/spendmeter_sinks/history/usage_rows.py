"""The edge to ClickHouse: usage as rows, in pieces that fit in memory, up to given offsets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.total import EARLIER
from spendmeter.contract.usage import CostSource, Status, UsageKind
from spendmeter.domain.matching import BudgetBook, Subject, columns_for
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import Dimension, field_of
from spendmeter.values.times import EPOCH, to_unix_us
from spendmeter_sinks.history.incarnations import Lineage, whole_topic

SENT_BEFORE = "event/"
"""Prefix in usage_objects of an event that an earlier incarnation may have, too. No provider has this name.
"""
MAX_ROWS_PER_READ = 500_000
"""Rows per query, unless one hour has more: a server may hold a whole answer in memory."""
_HOUR = timedelta(hours=1)
_NOT_IN_HISTORY = ("reader", "resolution", "resolved_at", "resolved_by")
"""Of a dead letter: only its topic has the resolution."""
Values = tuple[Any, ...]
"""The requested dimensions' values, in their order; tags as a tuple."""
# Events with a copy in this incarnation and a first copy in an earlier one: the stream counts them here.
_COPIES = (
    "SELECT event_id, min((partition, offset)) AS at, true AS found FROM usage_objects WHERE {here}"
    " GROUP BY event_id"
)

_IS_FLAT = f"cost_source = '{CostSource.UNPRICED}' AND status = '{Status.SUCCESS}'"
_FLATS = f"if(kind = '{UsageKind.USAGE}', 1, -1)"
FLATS_OF = f"if({_IS_FLAT}, {_FLATS}, 0)"
"""`flats_of` of charge.py as SQL on usage."""

FREE, UNPRICED = 1, 2
"""Why an event costs nothing: it is free, or nobody knows its price."""
Flats = tuple[int, int]
"""The event's number of flat amounts, and 1 if it costs nothing else: then it is not among `rows`."""


A = TypeVar("A")
"""An amount: nano-USD, or flat amounts."""


class Row(NamedTuple, Generic[A]):
    """The first copy of an event in history; `values` are those of the needed dimensions, in their order."""

    partition: int
    offset: int
    occurred_at_us: int
    appended_at_us: int
    amount: A
    values: Values


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of occurred_at, `[start, end)`; None has no bound."""

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


class UsageRows:
    """One database and the rows of one system in it. Blocking: call it from a thread.

    Rows of earlier incarnations of the topic have the source partition EARLIER. An event that has
    a copy in this incarnation has that copy's position, because the stream counts it there.
    """

    def __init__(self, client: Client, usage_topic: str, lineage: Lineage | None = None) -> None:
        self._client = client
        self._topic = usage_topic
        self._lineage = lineage or whole_topic(usage_topic)

    def earlier(self) -> int:
        """How much history has of earlier incarnations, as an offset that rises with each of their events."""
        if not self._lineage.earlier:
            return 0
        here, before = self._lineage.is_of_it, self._lineage.is_earlier
        ((reached,),) = self._query(
            "SELECT sum(reached) FROM (SELECT toInt64(max(offset)) + 1 AS reached FROM usage"
            f" WHERE {before} GROUP BY topic, incarnation, partition)"
        )
        ((copies,),) = self._query(
            f"SELECT uniqExact(object_id) FROM usage_objects WHERE {here} AND (startsWith(object_id,"
            f" '{SENT_BEFORE}') OR object_id IN (SELECT object_id FROM usage_objects WHERE {before}))"
        )
        return int(reached or 0) + int(copies)

    def slices(self, span: TimeRange) -> list[TimeRange]:
        """The span cut so that each piece has about MAX_ROWS_PER_READ rows; an hour is never cut."""
        rows = self._query(
            "SELECT toInt64(toUnixTimestamp(toStartOfHour(occurred_at))) AS hour, count() FROM usage"
            f" WHERE {self._lineage.is_of_all} AND {span.sql()} GROUP BY hour ORDER BY hour"
        )
        return cut((EPOCH + timedelta(seconds=second), count) for second, count in rows)

    def rows(
        self, dimensions: Sequence[Dimension], span: TimeRange, bounds: Mapping[int, int]
    ) -> Iterator[tuple[int, int, int, int, int, Values]]:
        """First copies of events that cost something.

        Each is partition, offset, occurred_at and appended_at in µs, nano-USD, values.
        """
        yield from self._stream(
            self._select("cost_nanousd", dimensions, span, bounds, "cost_usd != 0"), plain=5
        )

    def flats(
        self, dimensions: Sequence[Dimension], span: TimeRange, bounds: Mapping[int, int]
    ) -> Iterator[tuple[int, int, int, int, Flats, Values]]:
        """Like `rows`, but only of unpriced requests, with their number of flat amounts instead of
        nano-USD.
        """
        amount = f"({_FLATS}, toInt64(cost_usd = 0))"
        yield from self._stream(self._select(amount, dimensions, span, bounds, _IS_FLAT), plain=5)

    def _select(
        self,
        amount: str,
        dimensions: Sequence[Dimension],
        span: TimeRange,
        bounds: Mapping[int, int],
        which: str,
    ) -> str:
        """First copies, each with an amount; those of this incarnation up to the bounds."""
        position, source = "partition, offset", "usage FINAL"
        condition = f"{self._lineage.is_of_it} AND {up_to(bounds)}"
        if self._lineage.earlier:
            here = self._lineage.is_of_it
            position = f"if({here}, toInt64(partition), {EARLIER}), if({here}, offset, 0)"
            if self._query(f"SELECT 1 FROM usage_objects WHERE {here} LIMIT 1"):
                source += f" LEFT JOIN ({_COPIES.format(here=here)}) AS copy USING (event_id)"
                position = (
                    f"multiIf({here}, toInt64(partition), copy.found, toInt64(tupleElement(copy.at, 1)),"
                    f" {EARLIER}),"
                    f" multiIf({here}, offset, copy.found, tupleElement(copy.at, 2), 0)"
                )
            condition = f"(({condition}) OR {self._lineage.is_earlier})"
        return (
            f"SELECT {position}, toUnixTimestamp64Micro(occurred_at),"
            f" toUnixTimestamp64Milli(appended_at) * 1000, {amount}{columns_of(dimensions)}"
            f" FROM {source} WHERE {condition} AND {span.sql()} AND {which}"
        )

    def free(
        self, dimensions: Sequence[Dimension], span: TimeRange, bounds: Mapping[int, int]
    ) -> Iterator[tuple[int, int, int, int, int, Values]]:
        """Like `rows`, but of events at cost 0, with FREE, or UNPRICED if `flats` has it, instead of
        nano-USD.
        """
        yield from self._stream(
            "SELECT partition, offset, toUnixTimestamp64Micro(occurred_at),"
            " toUnixTimestamp64Milli(appended_at) * 1000,"
            f" if({_IS_FLAT}, {UNPRICED}, {FREE})"
            f"{columns_of(dimensions)} FROM usage FINAL"
            f" WHERE topic = {{topic:String}} AND {span.sql()} AND {up_to(bounds)} AND cost_usd = 0",
            plain=5,
        )

    def letters(self) -> Iterator[DeadLetter]:
        """Every dead letter of the topic and of earlier incarnations."""
        names = [name for name in DeadLetter.model_fields if name not in _NOT_IN_HISTORY]
        columns = [f"concat(toString({n}), 'Z')" if n == "failed_at" else n for n in names]
        for row in self._stream(
            f"SELECT {', '.join(columns)} FROM dead_letters FINAL WHERE {self._lineage.is_from}"
            " ORDER BY source_partition, source_offset",
            plain=len(names),
        ):
            yield DeadLetter.model_validate(dict(zip(names, row, strict=False)))

    def _query(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self._client.query(
            sql, parameters={"topic": self._topic, **parameters}
        ).result_rows
        return rows

    def _stream(self, sql: str, plain: int) -> Iterator[Any]:
        """Rows, a block at a time: the first columns unchanged, the others as one tuple."""
        stream = self._client.query_column_block_stream(sql, parameters={"topic": self._topic})
        with stream as blocks:
            for block in blocks:
                columns = [
                    list(map(tuple, column)) if column and isinstance(column[0], list) else column
                    for column in block
                ]
                values = zip(*columns[plain:], strict=True) if columns[plain:] else repeat(())
                yield from zip(*columns[:plain], values, strict=False)


def cut(hours: Iterable[tuple[datetime, int]], at_most: int = MAX_ROWS_PER_READ) -> list[TimeRange]:
    """Whole hours with their row counts, rising, as spans of at most that many rows or one hour."""
    spans: list[TimeRange] = []
    held = 0
    for hour, count in hours:
        if spans and held + count <= at_most:
            spans[-1] = TimeRange(spans[-1].start, hour + _HOUR)
            held += count
        else:
            spans.append(TimeRange(hour, hour + _HOUR))
            held = count
    return spans


def up_to(bounds: Mapping[int, int]) -> str:
    """Condition: rows of those partitions, up to and including those offsets."""
    ends = [bounds.get(partition, -1) + 1 for partition in range(max(bounds, default=EARLIER) + 1)]
    return f"offset < {ends}[partition + 1]" if ends else "0"


def columns_of(dimensions: Sequence[Dimension]) -> str:
    """The dimensions as columns, each after a comma; `subject_from` reads their values."""
    return "".join(f", `{field_of(dimension)}`" for dimension in dimensions)


def subject_from(dimensions: Sequence[Dimension], values: Sequence[Any]) -> Subject:
    """The subject of a row that was read with only these dimensions; its model as it was recorded."""
    named = dict(zip(map(field_of, dimensions), values, strict=True))
    return Subject(**{**named, "tags": tuple(dict.fromkeys(named.get("tags", ())))})


def needed_dimensions(book: BudgetBook) -> list[Dimension]:
    """The dimensions that some budget needs to match; no other column of history is read."""
    return columns_for(dimension for budget in book for dimension in budget.match)


def _moment(time: datetime) -> str:
    return f"fromUnixTimestamp64Micro(toInt64({to_unix_us(time)}), 'UTC')"
