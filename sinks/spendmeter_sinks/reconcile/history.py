"""The edge to ClickHouse: the comparison's queries of history. Answers are bounded, or streams of blocks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from spendmeter.contract.budget import Budget
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import from_unix_us
from spendmeter_sinks.history.usage_rows import SENT_BEFORE, TimeRange, UsageRows, Values, columns_of, up_to
from spendmeter_sinks.reconcile.scope import Revision
from spendmeter_sinks.reconcile.sequences import Range

MAX_RANGES = 10_000
MAX_CONFLICTS = 100
MAX_IDS_PER_QUERY = 1_000

# Bills that history has from another record. They are not gaps in their producer's sequence.
_REPEATED_BILLS = (
    "SELECT producer_id, seq FROM usage_objects FINAL WHERE {of} AND (producer_id, seq)"
    " NOT IN (SELECT producer_id, seq FROM usage WHERE {of} AND object_id != '')"
    f" AND NOT startsWith(object_id, '{SENT_BEFORE}')"
)


class ProducerHistory(NamedTuple):
    """What history has of one producer."""

    producer_id: str
    rows: int
    """Includes copies that are not merged yet."""
    seqs: int
    """Distinct ones."""
    highest: int


class Conflict(NamedTuple):
    producer_id: str
    seq: int
    event_ids: tuple[UUID, ...]
    costs_nanousd: tuple[int, ...]


class History(UsageRows):
    """One database and the rows of one system in it. Blocking: call it from a thread."""

    @property
    def _of(self) -> str:
        """Condition: rows of the system, of any incarnation. A producer may have moved with it."""
        return self._lineage.is_of_all

    @property
    def _repeated_bills(self) -> str:
        return _REPEATED_BILLS.format(of=self._of)

    def recorded(self) -> list[ProducerHistory]:
        """Every producer, with the end of its sequence."""
        rows = self._query(
            "SELECT producer_id, count(), groupBitmap(seq), max(seq) FROM"
            f" (SELECT producer_id, seq FROM usage WHERE {self._of} UNION ALL {self._repeated_bills})"
            " GROUP BY producer_id ORDER BY producer_id"
        )
        return [ProducerHistory(*row) for row in rows]

    def gaps(self, producers: Sequence[str]) -> dict[str, list[Range]]:
        """The gaps below the producers' highest numbers: the first MAX_RANGES ranges."""
        rows = self._query(
            "SELECT producer_id, before + 1, seq - 1 FROM (SELECT producer_id, seq,"
            " lagInFrame(seq, 1, 0) OVER (PARTITION BY producer_id ORDER BY seq"
            " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before"
            f" FROM (SELECT producer_id, seq FROM usage WHERE {self._of}"
            f" UNION ALL {self._repeated_bills}) WHERE producer_id IN {{producers:Array(String)}})"
            f" WHERE seq > before + 1 ORDER BY producer_id, seq LIMIT {MAX_RANGES}",
            producers=list(producers),
        )
        found: dict[str, list[Range]] = {}
        for producer_id, first, last in rows:
            found.setdefault(producer_id, []).append(Range(first, last))
        return found

    def conflicts(self, producers: Sequence[str]) -> list[Conflict]:
        """The first MAX_CONFLICTS sequence numbers with several events."""
        rows = self._query(
            "SELECT producer_id, seq, groupUniqArray(10)(event_id), groupUniqArray(10)(cost_nanousd)"
            # Of two corrections that were made at once the first counts, by design (history/correction.py).
            f" FROM usage WHERE {self._of} AND producer_id IN {{producers:Array(String)}}"
            " AND kind = 'usage' GROUP BY producer_id, seq"
            " HAVING min(event_id) != max(event_id) OR min(cost_usd) != max(cost_usd)"
            # Copies that differ in these would never be merged.
            " OR min(occurred_at) != max(occurred_at) OR min(key) != max(key)"
            f" ORDER BY producer_id, seq LIMIT {MAX_CONFLICTS}",
            producers=list(producers),
        )
        return [Conflict(p, seq, tuple(ids), tuple(costs)) for p, seq, ids, costs in rows]

    def count(self, bounds: Mapping[int, int]) -> tuple[int, int]:
        """Events up to those offsets, each once, and the nano-USD that they add up to."""
        ((events, nanousd),) = self._query(
            "SELECT count(), sum(toInt128(cost_nanousd)) FROM usage FINAL"
            f" WHERE ({self._lineage.is_of_it} AND {up_to(bounds)}) OR {self._lineage.is_earlier}"
        )
        return events, nanousd

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

    def events(
        self, dimensions: Sequence[Dimension], span: TimeRange, partition: int, first: int, last: int
    ) -> Iterator[tuple[UUID, int, int, int, Values]]:
        """First copies in a range of offsets: event id, offset, occurred_at in µs, nano-USD, values."""
        yield from self._stream(
            "SELECT event_id, offset, toUnixTimestamp64Micro(occurred_at), cost_nanousd"
            f"{columns_of(dimensions)} FROM usage FINAL WHERE {self._lineage.is_of_it} AND {span.sql()}"
            f" AND partition = {partition:d} AND offset BETWEEN {first:d} AND {last:d}",
            plain=4,
        )

    def having(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """The events that history has; of more than MAX_IDS_PER_QUERY ids, only the first are queried."""
        if not event_ids:
            return set()
        rows = self._query(
            f"SELECT DISTINCT event_id FROM usage WHERE {self._of} AND event_id IN {{ids:Array(UUID)}}",
            ids=[str(event_id) for event_id in event_ids[:MAX_IDS_PER_QUERY]],
        )
        return {event_id for (event_id,) in rows}
