"""Records of usage as columns, without a row for each: of all tables only this one has to be fast. Pure.

A batch outlives the processor's caches, so little of it is kept: equal texts once.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

from pydantic.fields import FieldInfo

from sinks.clickhouse.batch import StoredRecord
from sinks.clickhouse.reading import Reading, Unreadable
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import InvalidRecord, read_usage
from spendmeter.contract.times import EPOCH, UtcTime, from_unix_us
from spendmeter.contract.usage import UsageEvent

# Few enough that they are still in the processor's cache when the last column is taken from them.
EVENTS_AT_ONCE = 128
_MICROSECOND = timedelta(microseconds=1)

_Get = Callable[[Any], Any]


class _Column(NamedTuple):
    """What is kept of one field, and how it is taken from events."""

    values: list[Any]
    take: Callable[[Sequence[Any]], Iterable[Any]]


def read_usage_columns(records: Sequence[StoredRecord]) -> Reading:
    """Turn records into columns; what cannot be read is set apart and never stops the rest.

    The columns are the fields of a usage event in their order, then topic, partition, offset and Kafka's
    timestamp. Times are whole microseconds, the cost is whole nano-USD, the event's id a number.
    """
    fields = [start() for start in _STARTS]
    topics: list[str] = []
    partitions, offsets, stamps = array("q"), array("q"), array("q")
    unreadable: list[Unreadable] = []
    for start in range(0, len(records), EVENTS_AT_ONCE):
        events, kept = _read(records[start : start + EVENTS_AT_ONCE], unreadable)
        for values, take in fields:
            values.extend(take(events))
        topics.extend([record.topic for record in kept])
        partitions.extend([record.partition for record in kept])
        offsets.extend([record.offset for record in kept])
        stamps.extend([record.timestamp for record in kept])
    columns: list[Sequence[Any]] = [values for values, _ in fields]
    columns += [topics, partitions, offsets, stamps]
    return Reading(columns, len(topics), unreadable)


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


def _start(name: str, kind: Any, field: FieldInfo) -> Callable[[], _Column]:
    """How the field's column begins."""
    get = attrgetter(name)
    if kind == UtcTime:
        # As to_unix_us, without a call for each.
        return lambda: _Column([], lambda events: [(t - EPOCH) // _MICROSECOND for t in map(get, events)])
    if name == "event_id":
        return _plain(attrgetter("event_id.int"))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        # The text itself: a member is hashed by a function in Python.
        return _plain(attrgetter(f"{name}._value_"))
    if name == "prices":
        return _shared(get, lambda prices: (*prices.items(),))
    if name in _EACH_ITS_OWN or field.annotation in _NUMBERS:
        return _plain(get)
    return _shared(get)


def _plain(get: _Get) -> Callable[[], _Column]:
    return lambda: _Column([], lambda events: map(get, events))


def _shared(get: _Get, key: _Get | None = None) -> Callable[[], _Column]:
    """Equal values are kept once. `key` tells whether they are, for those that cannot be hashed."""

    def start() -> _Column:
        seen: dict[Any, Any] = {}

        def take(events: Sequence[Any]) -> Iterable[Any]:
            values = [*map(get, events)]
            return map(seen.setdefault, map(key, values) if key else values, values)

        return _Column([], take)

    return start


_NUMBERS = (bool, int, NanoUsd)
_EACH_ITS_OWN = frozenset({"corrects", "call_id", "response_id"})
_KINDS = get_type_hints(UsageEvent, include_extras=True)
_STARTS = [_start(name, _KINDS[name], field) for name, field in UsageEvent.model_fields.items()]
