"""How every process makes dead letters: with the whole record, if that fits the topic. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from spendmeter.contract.dead_letter import DeadLetter, Reader, hold, hold_headers, not_held
from spendmeter.contract.records import InvalidRecord, encode_dead_letter
from spendmeter.contract.topics import MAX_DEAD_LETTER_BYTES
from spendmeter.kafka.client import record_bytes


class StoredRecord(Protocol):
    """The parts that we need of a record from a Kafka client."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def dead_letter_of(
    record: StoredRecord, invalid: InvalidRecord, component: str, reader: Reader, now: datetime
) -> DeadLetter:
    """The dead letter that keeps the record and the reason. If both together are too large for the topic, it
    has no record and says where to find it.
    """
    letter = DeadLetter(
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        reason=invalid.reason,
        detail=invalid.detail,
        component=component,
        reader=reader,
        headers=hold_headers(record.headers),
        failed_at=now,
        **hold(record.key, record.value),
    )
    if record_bytes(*encode_dead_letter(letter)) <= MAX_DEAD_LETTER_BYTES:
        return letter
    return letter.model_copy(update={"headers": {}, **not_held()})
