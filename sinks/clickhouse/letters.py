"""What a batch comes to: rows for history, letters for the dead. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sinks.clickhouse.batch import StoredRecord
from sinks.clickhouse.tables import Table
from spendmeter.contract.dead_letter import DeadLetter, Reason, hold, hold_headers
from spendmeter.contract.records import InvalidRecord

MAX_DETAIL_CHARACTERS = 1_000


@dataclass(slots=True)
class Reading:
    """A batch, read. Rows and unreadable records together are all of it, but for tombstones of signals."""

    columns: list[Sequence[Any]] = field(default_factory=list)
    """One sequence per column, all of the same length: the shape that ClickHouse wants."""
    rows: int = 0
    unreadable: list[tuple[StoredRecord, InvalidRecord]] = field(default_factory=list)


def read_batch(table: Table, records: Sequence[StoredRecord]) -> Reading:
    """Turn records into columns; what cannot be read is set apart and never stops the rest."""
    reading = Reading()
    rows = []
    for record in records:
        try:
            row = table.row_of(record)
        except InvalidRecord as invalid:
            reading.unreadable.append((record, invalid))
            continue
        if row is not None:
            rows.append(row)
    reading.columns, reading.rows = list(zip(*rows, strict=True)), len(rows)
    return reading


def letter_of(record: StoredRecord, invalid: InvalidRecord, component: str, now: datetime) -> DeadLetter:
    """The letter that keeps the record whole and names what is wrong with it."""
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        reason=invalid.reason,
        detail=invalid.detail[:MAX_DETAIL_CHARACTERS],
        component=component,
        headers=hold_headers(record.headers),
        failed_at=now,
        **hold(record.key, record.value),
    )


def refused(detail: str) -> InvalidRecord:
    """Why a record that could be read has no row: ClickHouse would not take it."""
    return InvalidRecord(Reason.REFUSED_BY_HISTORY, detail)
