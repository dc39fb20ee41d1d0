"""Decodes records of usage into columns, without a row for each: only this table has to be fast. Pure.

A batch is larger than the processor's caches, so it is kept small: equal texts are stored once. zip turns
rows into columns, not a loop over fields.
"""

from array import array
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec.structs import astuple
from pydantic.fields import FieldInfo

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import InvalidRecord, read_usage
from spendmeter.contract.signing import NO_KEYS, SigningKeys
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import check_writer
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter.values.times import EPOCH, UtcTime, from_unix_us
from spendmeter_sinks.clickhouse.column_types import Names
from spendmeter_sinks.clickhouse.decoding import DecodedBatch, Unreadable

# Few enough that they are still in the processor's cache when the last column is read from them.
EVENTS_AT_ONCE = 128
_MICROSECOND = timedelta(microseconds=1)

_Values = tuple[Any, ...]


class _Column(NamedTuple):
    """One field's column, and how a block of the field's values is added to it."""

    kept: list[Any] | Names
    of: Callable[[_Values], Sequence[Any]] | None = None
    """None: kept as they are."""


def read_usage_columns(records: Sequence[StoredRecord], keys: SigningKeys = NO_KEYS) -> DecodedBatch:
    """Turn records into columns; an unreadable record is set aside and never stops the rest.

    The columns are the fields of a usage event in their order, then the id of the signing key (where that
    matters), topic, partition, offset and Kafka's timestamp. Times are whole microseconds, the cost is whole
    nano-USD, and the event's id is a number.
    """
    fields = [start() for start in _STARTS]
    signers, topics = Names(nullable=False), Names(nullable=False)
    partitions, offsets, stamps = array("q"), array("q"), array("q")
    unreadable: list[Unreadable] = []
    for start in range(0, len(records), EVENTS_AT_ONCE):
        events, signed_by, kept = _read(records[start : start + EVENTS_AT_ONCE], keys, unreadable)
        # Empty if none could be read.
        for values, (into, of) in zip(zip(*events, strict=True), fields, strict=False):
            into.extend(values if of is None else of(values))
        signers.extend(signed_by)
        topics.extend([record.topic for record in kept])
        partitions.extend([record.partition for record in kept])
        offsets.extend([record.offset for record in kept])
        stamps.extend([record.timestamp for record in kept])
    columns: list[Sequence[Any]] = [into for into, _ in fields]
    columns += [signers, topics, partitions, offsets, stamps]
    return DecodedBatch(columns, len(topics), unreadable)


def _read(
    records: Sequence[StoredRecord], keys: SigningKeys, unreadable: list[Unreadable]
) -> tuple[list[_Values], list[str], list[StoredRecord]]:
    """For each event its fields in their order, the key that signed it, and its record."""
    events: list[_Values] = []
    signers: list[str] = []
    kept: list[StoredRecord] = []
    stamp_ms, appended_at = 0, EPOCH
    for record in records:
        # The records of one fetch share a few timestamps.
        if record.timestamp != stamp_ms:
            stamp_ms = record.timestamp
            appended_at = from_unix_us(stamp_ms * 1000)
        try:
            read = read_usage(record.value, record.headers, appended_at)
            signer = check_writer(record, read, appended_at, keys)
        except InvalidRecord as invalid:
            unreadable.append((record, invalid))
            continue
        # The struct has the model's fields in the same order.
        events.append(_fields_of(read) if isinstance(read, UsageEvent) else astuple(read))
        signers.append(signer)
        kept.append(record)
    return events, signers, kept


def _start(name: str, kind: Any, field: FieldInfo) -> Callable[[], _Column]:
    """The empty column of a field."""
    if name in NAMES:
        # A StrEnum's text itself: Python hashes a member with a slow function.
        of = _texts if isinstance(kind, type) and issubclass(kind, StrEnum) else None
        return lambda: _Column(Names(nullable=field.annotation == str | None), of)
    if kind == UtcTime:
        return lambda: _Column([], _microseconds)
    if name == "event_id":
        return lambda: _Column([], _numbers)
    if name == "prices":
        # Comparing their JSON, which includes the order, needs half the time of a tuple.
        return _shared(msgspec.json.Encoder().encode)
    if name in _EACH_ITS_OWN or field.annotation in _WHOLE:
        return lambda: _Column([])
    return _shared()


def _texts(members: _Values) -> list[str]:
    return [*map(_text, members)]


def _microseconds(times: _Values) -> list[int]:
    # Like to_unix_us, but without a call for each.
    return [(time - EPOCH) // _MICROSECOND for time in times]


def _numbers(ids: _Values) -> list[int]:
    return [*map(_number, ids)]


def _shared(key: Callable[[Any], Any] | None = None) -> Callable[[], _Column]:
    """Store equal values once. `key` compares values that cannot be hashed and may be equal without
    being identical."""

    def start() -> _Column:
        seen: dict[Any, Any] = {}

        def of(values: _Values) -> list[Any]:
            if key is not None:
                return [*map(seen.setdefault, map(key, values), values)]
            first = values[0]
            if first == values[-1] and values.count(first) == len(values):
                return [seen.setdefault(first, first)] * len(values)
            return [*map(seen.setdefault, values, values)]

        return _Column([], of)

    return start


NAMES = frozenset(
    {"kind", "key_alias", "team", "organization", "project", "model", "model_group", "provider"}
    | {"team_alias", "organization_alias", "project_alias"}
    | {"deployment", "call_type", "gateway", "cost_source", "cost_doubt", "status"}
)
"""Fields whose column is a LowCardinality(String), nullable or not."""

_WHOLE = (bool, int, NanoUsd)
_EACH_ITS_OWN = frozenset({"corrects", "call_id", "response_id"})
_KINDS = get_type_hints(UsageEvent, include_extras=True)
_STARTS = [_start(name, _KINDS[name], field) for name, field in UsageEvent.model_fields.items()]
_fields_of = attrgetter(*UsageEvent.model_fields)
_text, _number = attrgetter("_value_"), attrgetter("int")
