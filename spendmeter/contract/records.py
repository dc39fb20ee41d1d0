"""Records: wire values to and from Kafka bytes, as CloudEvents in binary mode.

Source: CloudEvents 1.0.2, Kafka protocol binding, section 3.2.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

from pydantic import ValidationError

from spendmeter.contract.alert import Alert, AlertDelivery
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter, Reason
from spendmeter.contract.decision import Decision
from spendmeter.contract.fast_json import UsageFields, event_of, read_fields, read_total, write_json
from spendmeter.contract.provider_object import ProviderObject
from spendmeter.contract.signal import Signal
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire, what_is_wrong
from spendmeter.values.times import format_time, remembered_time

# A gateway with a clock further ahead is broken: its events would fill windows that have not begun.
MAX_AHEAD = timedelta(hours=1)
# Pydantic lists every wrong field; a dead letter needs only the first few.
_MAX_ERRORS_SHOWN = 5
# A message may quote the refused value, which may be a megabyte.
MAX_DETAIL_CHARACTERS = 1_000

TYPES: dict[type[Wire], bytes] = {
    UsageEvent: b"dev.spendmeter.usage.v1",
    Budget: b"dev.spendmeter.budget.v1",
    Total: b"dev.spendmeter.total.v1",
    Opening: b"dev.spendmeter.opening.v1",
    Signal: b"dev.spendmeter.signal.v1",
    Alert: b"dev.spendmeter.alert.v1",
    Decision: b"dev.spendmeter.decision.v1",
    DeadLetter: b"dev.spendmeter.dead-letter.v1",
    ProviderObject: b"dev.spendmeter.object.v1",
    AlertDelivery: b"dev.spendmeter.delivery.v1",
}
"""The `ce_type` of each value that crosses Kafka."""
_SPECVERSION, _CONTENT_TYPE = ("ce_specversion", b"1.0"), ("content-type", b"application/json")


class Record(NamedTuple):
    """Key, value and headers for a Kafka producer; the caller chooses topic and partition."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class InvalidRecord(Exception):
    """A record that must become a dead letter; never a reason to stop."""

    def __init__(self, reason: Reason, detail: str) -> None:
        detail = detail[:MAX_DETAIL_CHARACTERS]
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def encode(
    value: Wire, key: str, event_id: str, source: str, time: datetime, written: bytes | None = None
) -> Record:
    """A wire value as a Kafka record with its CloudEvents headers; `written` is its JSON, if there."""
    # Thousands of records share one time; only the times of events never repeat.
    format_one = format_time if type(value) is UsageEvent else remembered_time
    headers = [
        _SPECVERSION,
        ("ce_id", event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", TYPES[type(value)]),
        ("ce_time", format_one(time).encode()),
        _CONTENT_TYPE,
    ]
    return Record(key.encode(), write_json(value) if written is None else written, headers)


def encode_usage(event: UsageEvent, written: bytes | None = None) -> Record:
    """A record of spend.usage; `written` is the event as JSON, if the caller has it."""
    source = f"gateway/{quote(event.gateway)}"
    return encode(event, placed_by(event), str(event.event_id), source, event.occurred_at, written)


SENT_BEFORE_HEADER = "ce_sentbefore"
"""The id of an earlier incarnation of the topic that may also have the usage event."""
_HEADERS = 6
"""The headers that `encode` adds to each record."""


def sent_before(record: Record, incarnation: str) -> Record:
    """The record of an event that was sent to that incarnation of spend.usage and may have arrived there."""
    return record._replace(headers=[*record.headers, (SENT_BEFORE_HEADER, incarnation.encode())])


def is_sent_before(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether an earlier incarnation of the topic may also have the event."""
    return len(headers) > _HEADERS and any(name == SENT_BEFORE_HEADER for name, _ in headers)


def placed_by(event: UsageEvent) -> str:
    """The key that decides an event's partition: its API key, or the object id, so that copies of a bill
    meet.
    """
    return event.object_id or event.key


def encode_budget(budget: Budget) -> Record:
    """A record of spend.budgets."""
    return encode(budget, budget.id, f"{budget.id}/{budget.revision}", "budgets", budget.updated_at)


def encode_total(total: Total, time: datetime) -> Record:
    """A record of spend.totals."""
    source, key = "meter" if total.before is None else "history", total.key()
    return encode(total, key, f"{key}/{total.last_offset}", source, time)


def encode_opening(opening: Opening, time: datetime) -> Record:
    """A record of spend.openings."""
    source = "history" if opening.source_partition == "history" else "meter"
    return encode(opening, opening.key(), f"{opening.key()}/{opening.first_offset}", source, time)


def encode_signal(signal: Signal) -> Record:
    """A record of spend.signals."""
    event_id = f"{signal.account}/{signal.revision}/{signal.version}"
    return encode(signal, signal.account, event_id, "judge", signal.emitted_at)


def encode_alert(alert: Alert, source: str = "judge") -> Record:
    """A record of spend.alerts."""
    key = alert.signal.account if alert.signal else ""
    return encode(alert, key, str(alert.alert_id), source, alert.emitted_at)


def encode_decision(decision: Decision) -> Record:
    """A record of spend.decisions."""
    key, source = decision.account or "", f"gateway/{quote(decision.gateway)}"
    return encode(decision, key, str(decision.decision_id), source, decision.decided_at)


def encode_object(made: ProviderObject) -> Record:
    """A record of spend.objects."""
    source = f"gateway/{quote(made.gateway)}"
    return encode(made, made.object_id, made.object_id, source, made.created_at)


def encode_delivery(delivery: AlertDelivery) -> Record:
    """A record of spend.deliveries."""
    key = delivery.key()
    return encode(delivery, key, f"{key}/{format_time(delivery.at)}", "relay", delivery.at)


def encode_dead_letter(letter: DeadLetter) -> Record:
    """A record of spend.dead-letters."""
    return encode(letter, letter.id, letter.id, letter.component, letter.failed_at)


_W = TypeVar("_W", bound=Wire)


def decode(model: type[_W], value: bytes | None, headers: Iterable[tuple[str, bytes | None]] = ()) -> _W:
    """Read a wire value.

    A record without a `ce_type` header is read as version 1 of what its topic holds.

    Raises:
        InvalidRecord: not JSON, another schema or version, or an invalid field.
    """
    _check_type(model, headers)
    if not value:
        raise InvalidRecord(Reason.NOT_JSON, "the record has no value")
    if model is Total and (total := read_total(value)) is not None:
        return cast(_W, total)
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        if any(e["type"] == "json_invalid" for e in error.errors(include_url=False)):
            raise InvalidRecord(Reason.NOT_JSON, error.errors(include_url=False)[0]["msg"]) from None
        raise InvalidRecord(Reason.INVALID, render_validation_error(error)) from None


def _check_type(model: type[Wire], headers: Iterable[tuple[str, bytes | None]]) -> None:
    known = TYPES[model]
    for name, text in headers:
        if name == "ce_type" and text != known:
            # Kafka allows a header without a value, although our types do not.
            found_type = (text or b"").decode(errors="replace")
            raise InvalidRecord(
                Reason.UNKNOWN_SCHEMA, f"ce_type is {found_type[:100]!r}; this reader knows {known.decode()}"
            )


def decode_usage(
    value: bytes | None, headers: Iterable[tuple[str, bytes | None]], appended_at: datetime
) -> UsageEvent:
    """Read a usage event that the broker appended at that time.

    Stream and history both read through `read_usage`, so that they drop the same records.

    Raises:
        InvalidRecord: see `decode`; or the event is more than MAX_AHEAD after `appended_at`.
    """
    read = read_usage(value, headers, appended_at)
    return read if isinstance(read, UsageEvent) else event_of(read)


def read_usage(
    value: bytes | None, headers: Iterable[tuple[str, bytes | None]], appended_at: datetime
) -> UsageEvent | UsageFields:
    """Like `decode_usage`, for callers that need the attributes of many events but no models.

    Raises:
        InvalidRecord: see `decode_usage`.
    """
    _check_type(UsageEvent, headers)
    read: Any = read_fields(value) if value else None
    if read is None:
        read = decode(UsageEvent, value)
    if read.occurred_at > appended_at and read.occurred_at - appended_at > MAX_AHEAD:
        raise InvalidRecord(
            Reason.FROM_THE_FUTURE,
            f"occurred_at {format_time(read.occurred_at)} is more than {MAX_AHEAD} after the broker's"
            f" {format_time(appended_at)}; set the gateway's clock",
        )
    event: UsageEvent | UsageFields = read
    return event


def render_validation_error(error: ValidationError) -> str:
    """Pydantic's findings in one line: `field: what is wrong; …`."""
    found = error.errors(include_url=False, include_input=False)
    lines = [
        f"{'.'.join(map(str, e['loc'])) or 'value'}: {what_is_wrong(e)}" for e in found[:_MAX_ERRORS_SHOWN]
    ]
    if len(found) > _MAX_ERRORS_SHOWN:
        lines.append(f"and {len(found) - _MAX_ERRORS_SHOWN} more")
    return "; ".join(lines)
