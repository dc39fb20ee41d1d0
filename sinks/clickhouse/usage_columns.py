"""Records of usage as columns, without a row for each: of all tables only this one has to be fast. Pure."""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from operator import attrgetter
from typing import Any, get_type_hints

from sinks.clickhouse.batch import StoredRecord
from sinks.clickhouse.reading import Reading, Unreadable
from spendmeter.contract.records import InvalidRecord, read_usage
from spendmeter.contract.times import EPOCH, UtcTime, from_unix_us, to_unix_us
from spendmeter.contract.usage import UsageEvent

# Few enough that they are still in the processor's cache when the last column is taken from them.
EVENTS_AT_ONCE = 256

_Take = Callable[[Sequence[Any]], Iterable[Any]]


def read_usage_columns(records: Sequence[StoredRecord]) -> Reading:
    """Turn records into columns; what cannot be read is set apart and never stops the rest.

    The columns are the fields of a usage event in their order, then topic, partition, offset and Kafka's
    timestamp. Times are whole microseconds, the cost is whole nano-USD, the event's id a number.
    """
    columns: list[list[Any]] = [[] for _ in range(len(_TAKE) + 4)]
    unreadable: list[Unreadable] = []
    for start in range(0, len(records), EVENTS_AT_ONCE):
        events, kept = _read(records[start : start + EVENTS_AT_ONCE], unreadable)
        for column, take in zip(columns, _TAKE, strict=False):
            column.extend(take(events))
        *_, topics, partitions, offsets, stamps = columns
        topics.extend([record.topic for record in kept])
        partitions.extend([record.partition for record in kept])
        offsets.extend([record.offset for record in kept])
        stamps.extend([record.timestamp for record in kept])
    return Reading(list(columns), len(columns[-1]), unreadable)


def _read(
    records: Sequence[StoredRecord], unreadable: list[Unreadable]
) -> tuple[list[Any], list[StoredRecord]]:
    events: list[Any] = []
    kept: list[StoredRecord] = []
    stamp_ms, appended_at = 0, EPOCH
    for record in records:
        # The records of one fetch have few timestamps between them.
        if record.timestamp != stamp_ms:
            stamp_ms = record.timestamp
            appended_at = from_unix_us(stamp_ms * 1000)
        try:
            events.append(read_usage(record.value, record.headers, appended_at))
        except InvalidRecord as invalid:
            unreadable.append((record, invalid))
            continue
        kept.append(record)
    return events, kept


def _take(name: str, kind: Any) -> _Take:
    """How a field's values are taken from events."""
    if kind == UtcTime:
        time = attrgetter(name)
        return lambda events: [to_unix_us(time(event)) for event in events]
    if name == "event_id":
        get = attrgetter("event_id.int")
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        # The text itself: a member is hashed by a function in Python.
        get = attrgetter(f"{name}._value_")
    else:
        get = attrgetter(name)
    return lambda events: map(get, events)


_KINDS = get_type_hints(UsageEvent, include_extras=True)
_TAKE = [_take(name, _KINDS[name]) for name in UsageEvent.model_fields]
