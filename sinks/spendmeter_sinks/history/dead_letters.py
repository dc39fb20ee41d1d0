"""Dead letters of spend.usage: the events in them that count all the same. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spendmeter.contract.dead_letter import DeadLetter, NotHeld, Reason
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.total import EARLIER
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.charge import flats_of
from spendmeter.domain.matching import subject_of
from spendmeter.values.dimensions import Dimension, field_of
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.history.usage_rows import A, Flats, Row

# A dead letter does not say when the broker appended its record, so it counts as before any budget began.
_LONG_AGO_US = 0


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that the stream counts and that history refused."""

    partition: int
    offset: int
    event: UsageEvent


@dataclass(slots=True)
class DeadLetterScan:
    records: int = 0
    seqs: dict[str, set[int]] = field(default_factory=dict)
    """By producer: the sequence numbers readable in records that are not events."""
    refused: dict[UUID, RefusedEvent] = field(default_factory=dict)
    """The first copy of each."""

    def rows(self, dimensions: Sequence[Dimension]) -> Iterator[Row[int]]:
        """The refused events as the rows that history lacks, if they cost something."""
        for refused in self.refused.values():
            if refused.event.cost_nanousd:
                yield _row(refused, refused.event.cost_nanousd, dimensions)

    def flats(self, dimensions: Sequence[Dimension]) -> Iterator[Row[Flats]]:
        """The refused events without a price, as rows for `Recount.add_flats`."""
        for refused in self.refused.values():
            flats = flats_of(refused.event)
            if flats:
                yield _row(refused, (flats, int(refused.event.cost_nanousd == 0)), dimensions)


def scan_dead_letters(letters: Iterable[DeadLetter], usage_topic: str = "") -> DeadLetterScan:
    """Read what can be read. Dead letters come in offset order within their partition.

    `usage_topic`: dead letters of another topic belong to an earlier incarnation.
    """
    found = DeadLetterScan()
    for letter in letters:
        found.records += 1
        try:
            _, payload = letter.record_bytes()
        except NotHeld:
            continue
        where = _producer_and_seq(payload)
        if where is not None:
            found.seqs.setdefault(where[0], set()).add(where[1])
        if letter.reason is not Reason.REFUSED_BY_HISTORY:
            continue
        try:
            event = decode(UsageEvent, payload)
        except InvalidRecord:
            continue
        is_earlier = usage_topic not in ("", letter.source_topic)
        at = (EARLIER, 0) if is_earlier else (letter.source_partition, letter.source_offset)
        refused = RefusedEvent(*at, event)
        found.refused.setdefault(event.event_id, refused)
    return found


def _row(refused: RefusedEvent, amount: A, dimensions: Sequence[Dimension]) -> Row[A]:
    subject = subject_of(refused.event)
    values = tuple(getattr(subject, field_of(d)) for d in dimensions)
    occurred_at_us = to_unix_us(refused.event.occurred_at)
    return Row(refused.partition, refused.offset, occurred_at_us, _LONG_AGO_US, amount, values)


def _producer_and_seq(payload: bytes) -> tuple[str, int] | None:
    try:
        fields: Any = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    producer, seq = fields.get("producer_id"), fields.get("seq")
    if isinstance(producer, str) and isinstance(seq, int) and not isinstance(seq, bool):
        return producer, seq
    return None
