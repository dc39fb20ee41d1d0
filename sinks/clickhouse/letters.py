"""Letters for the dead: what history cannot keep, kept whole. Pure."""

from datetime import datetime

from sinks.clickhouse.batch import StoredRecord
from spendmeter.contract.dead_letter import DeadLetter, Reason, hold, hold_headers
from spendmeter.contract.records import InvalidRecord


def letter_of(record: StoredRecord, invalid: InvalidRecord, component: str, now: datetime) -> DeadLetter:
    """The letter that keeps the record whole and names what is wrong with it."""
    return DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        reason=invalid.reason,
        detail=invalid.detail,
        component=component,
        headers=hold_headers(record.headers),
        failed_at=now,
        **hold(record.key, record.value),
    )


def refused(detail: str) -> InvalidRecord:
    """Why a record that could be read has no row: ClickHouse would not take it."""
    return InvalidRecord(Reason.REFUSED_BY_HISTORY, detail)
