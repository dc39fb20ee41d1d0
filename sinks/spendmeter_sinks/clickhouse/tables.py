"""Which table stores which topic, column by column, and how a record becomes a row. Pure."""

from dataclasses import dataclass

from spendmeter.contract.alert import Alert, AlertDelivery
from spendmeter.contract.dead_letter import DeadLetter, Reason
from spendmeter.contract.decision import Decision
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.topics.budgets import read_budget
from spendmeter.topics.dead_letters import StoredRecord
from spendmeter_sinks.clickhouse.decoding import DecodedBatch, Decoder, row_decoder, signed_row_decoder
from spendmeter_sinks.clickhouse.rows import (
    Coordinates,
    Row,
    alert_row,
    budget_row,
    dead_letter_row,
    decision_row,
    delivery_row,
    removed_budget_row,
    signal_row,
)
from spendmeter_sinks.clickhouse.usage_columns import read_usage_columns

_TIME = "DateTime64(6, 'UTC')"
_NAME = "LowCardinality(String)"
_NAME_OR_NONE = "LowCardinality(Nullable(String))"
_SUBJECT = "Map(LowCardinality(String), String)"
_COORDINATES = {
    "topic": _NAME,
    "partition": "UInt32",
    "offset": "UInt64",
    "appended_at": "DateTime64(3, 'UTC')",
    "incarnation": _NAME,
}
"""No record has the last one: `Table.read` leaves it to `with_incarnation`."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of history and its topic."""

    name: str
    topic: Topic
    columns: dict[str, str]
    """Name: ClickHouse type, in the order of a row. Columns that ClickHouse fills itself are left out."""
    read: Decoder
    whole: frozenset[str] = frozenset()
    """Columns of money or ids whose values are whole numbers already: nano-USD, or the number of a UUID."""


def _at(record: StoredRecord) -> Coordinates:
    return Coordinates(record.topic, record.partition, record.offset, record.timestamp)


def _signal(record: StoredRecord) -> Row | None:
    # A tombstone only lets compaction remove an account whose window is over.
    if record.value is None:
        return None
    return signal_row(decode(Signal, record.value, record.headers), _at(record))


def _alert(record: StoredRecord) -> Row:
    return alert_row(decode(Alert, record.value, record.headers), _at(record))


def _delivery(record: StoredRecord) -> Row | None:
    # A tombstone only lets Kafka forget, and where a route began is of no alert.
    if record.value is None:
        return None
    delivery = decode(AlertDelivery, record.value, record.headers)
    if delivery.key().encode() != record.key:
        raise InvalidRecord(
            Reason.INVALID, f"the record's key {record.key!r} is not the delivery's, {delivery.key()!r}"
        )
    return None if delivery.alert_id is None else delivery_row(delivery, _at(record))


def _budget(record: StoredRecord, signed_by: str) -> Row:
    if record.value is None:
        budget_id = (record.key or b"").decode(errors="replace")
        return removed_budget_row(budget_id, _text_of(record, "ce_updatedby"), signed_by, _at(record))
    return budget_row(read_budget(record), record.value.decode(), signed_by, _at(record))


def _text_of(record: StoredRecord, header: str) -> str:
    """The header's text, empty if there is none. Anyone may write any bytes there."""
    found = next((text for name, text in record.headers if name == header), None)
    return (found or b"").decode(errors="replace")


def _decision(record: StoredRecord) -> Row:
    return decision_row(decode(Decision, record.value, record.headers), _at(record))


def _dead_letter(record: StoredRecord) -> Row | None:
    letter = decode(DeadLetter, record.value, record.headers)
    # Its resolution is a record of its own, not a second dead letter.
    return dead_letter_row(letter, _at(record)) if letter.resolution is None else None


USAGE = Table(
    "usage",
    Topic.USAGE,
    {
        "event_id": "UUID",
        "kind": _NAME,
        "corrects": "Nullable(UUID)",
        "producer_id": "String",
        "seq": "UInt64",
        "occurred_at": _TIME,
        "started_at": _TIME,
        "key": "String",
        "key_alias": _NAME_OR_NONE,
        "user": "Nullable(String)",
        "team": _NAME_OR_NONE,
        "organization": _NAME_OR_NONE,
        "project": _NAME_OR_NONE,
        "end_user": "Nullable(String)",
        "tags": "Array(LowCardinality(String))",
        "user_alias": "Nullable(String)",
        "user_email": "Nullable(String)",
        "team_alias": _NAME_OR_NONE,
        "organization_alias": _NAME_OR_NONE,
        "project_alias": _NAME_OR_NONE,
        "model": _NAME,
        "model_group": _NAME,
        "provider": _NAME,
        "deployment": _NAME_OR_NONE,
        "call_type": _NAME,
        "session": "Nullable(String)",
        "gateway": _NAME,
        "input_tokens": "UInt64",
        "output_tokens": "UInt64",
        "cache_read_tokens": "UInt64",
        "cache_write_tokens": "UInt64",
        "reasoning_tokens": "UInt64",
        "total_tokens": "UInt64",
        "cost_usd": "Decimal(18, 9)",
        "cost_source": _NAME,
        "prices": "Map(LowCardinality(String), String)",
        "cost_doubt": _NAME,
        "status": _NAME,
        "estimated": "Bool",
        "streamed": "Bool",
        "cache_hit": "Bool",
        "duration_ms": "UInt64",
        "call_id": "String",
        "response_id": "String",
        "object_id": "String",
        "reason": "String",
        "recorded_by": "String",
        "signed_by": _NAME,
        **_COORDINATES,
    },
    read_usage_columns,
    frozenset({"event_id", "cost_usd"}),
)

USAGE_OBJECTS = Table(
    "usage_objects",
    Topic.USAGE,
    {
        "object_id": "String",
        "producer_id": "String",
        "seq": "UInt64",
        "event_id": "UUID",
        **_COORDINATES,
    },
    lambda _, __: DecodedBatch(),
    frozenset({"event_id"}),
)
"""Rows of the same records as USAGE (objects.py)."""

SIGNALS = Table(
    "signals",
    Topic.SIGNALS,
    {
        "budget_id": _NAME,
        "account": "String",
        "subject": _SUBJECT,
        "window_start": _TIME,
        "window_end": f"Nullable({_TIME})",
        "limit_usd": "Decimal(38, 9)",
        "spent_usd": "Decimal(38, 9)",
        "state": _NAME,
        "threshold": "Nullable(Float64)",
        "watermark": "Map(UInt32, Int64)",
        "source_incarnation": _NAME,
        "revision": "Int64",
        "version": "UInt64",
        "cause_event_id": "Nullable(UUID)",
        "forecast_exhausted_at": f"Nullable({_TIME})",
        "emitted_at": _TIME,
        **_COORDINATES,
    },
    row_decoder(_signal),
)

ALERTS = Table(
    "alerts",
    Topic.ALERTS,
    {
        "alert_id": "UUID",
        "kind": _NAME,
        "message": "String",
        "emitted_at": _TIME,
        "budget_id": _NAME,
        "account": "String",
        "subject": _SUBJECT,
        "window_start": f"Nullable({_TIME})",
        "window_end": f"Nullable({_TIME})",
        "limit_usd": "Nullable(Decimal(38, 9))",
        "spent_usd": "Nullable(Decimal(38, 9))",
        "state": _NAME_OR_NONE,
        "threshold": "Nullable(Float64)",
        "revision": "Nullable(Int64)",
        "cause_event_id": "Nullable(UUID)",
        **_COORDINATES,
    },
    row_decoder(_alert),
)

DELIVERIES = Table(
    "deliveries",
    Topic.DELIVERIES,
    {
        "alert_id": "UUID",
        "route": _NAME,
        "outcome": _NAME,
        "at": _TIME,
        "reason": "String",
        "attempts": "UInt64",
        "reminders": "UInt64",
        "due_at": f"Nullable({_TIME})",
        "kind": _NAME,
        "emitted_at": f"Nullable({_TIME})",
        "budget_id": _NAME,
        "account": "String",
        "subject": _SUBJECT,
        **_COORDINATES,
    },
    row_decoder(_delivery),
)

BUDGETS = Table(
    "budgets",
    Topic.BUDGETS,
    {
        "id": "String",
        "removed": "Bool",
        "revision": "Int64",
        "match": _SUBJECT,
        "limit_usd": "Decimal(18, 9)",
        "period": _NAME,
        "timezone": _NAME,
        "starts_at": f"Nullable({_TIME})",
        "reset_at": f"Nullable({_TIME})",
        "warn_at": "Array(Float64)",
        "action": _NAME,
        "enforcement": _NAME,
        "unpriced": "String",
        "raises.amount_usd": "Array(Decimal(18, 9))",
        "raises.until": f"Array({_TIME})",
        "replaces": "Nullable(String)",
        "updated_at": _TIME,
        "updated_by": "String",
        "signed_by": _NAME,
        "definition": "String",
        **_COORDINATES,
    },
    signed_row_decoder(_budget),
)

DECISIONS = Table(
    "decisions",
    Topic.DECISIONS,
    {
        "decision_id": "UUID",
        "decided_at": _TIME,
        "gateway": _NAME,
        "why": _NAME,
        "name": "String",
        "message": "String",
        "budget_id": _NAME,
        "revision": "Nullable(Int64)",
        "account": "String",
        "window_start": f"Nullable({_TIME})",
        "window_end": f"Nullable({_TIME})",
        "limit_usd": "Nullable(Decimal(38, 9))",
        "spent_usd": "Nullable(Decimal(38, 9))",
        "signal_usd": "Nullable(Decimal(38, 9))",
        "held_usd": "Nullable(Decimal(38, 9))",
        "least_usd": "Nullable(Decimal(38, 9))",
        "watermark": "Map(UInt32, Int64)",
        "producer_id": "String",
        "seq": "UInt64",
        "pending_usd": "Nullable(Decimal(38, 9))",
        "pending": "Array(UUID)",
        **_COORDINATES,
    },
    row_decoder(_decision),
)

DEAD_LETTERS = Table(
    "dead_letters",
    Topic.DEAD_LETTERS,
    {
        "source_topic": _NAME,
        "source_partition": "UInt32",
        "source_offset": "UInt64",
        "reason": _NAME,
        "detail": "String",
        "component": _NAME,
        "key": "String",
        "payload": "String",
        "encoding": _NAME,
        "headers": "Map(String, String)",
        "failed_at": _TIME,
        **_COORDINATES,
    },
    row_decoder(_dead_letter),
)

TABLES = (USAGE, SIGNALS, ALERTS, DELIVERIES, BUDGETS, DECISIONS, DEAD_LETTERS)
