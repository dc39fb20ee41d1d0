"""From a frame of the outbox to its Kafka record and partition. Pure."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from spendmeter.contract.fast_json import event_of, read_fields
from spendmeter.contract.records import InvalidRecord, Record, decode, encode_usage, placed_by
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import partition_of
from spendmeter.values.times import EPOCH
from spendmeter_gateway.outbox.frames import Frame

log = logging.getLogger(__name__)


class OutboxRecord(NamedTuple):
    """One event on its way to Kafka."""

    seq: int
    key: str
    occurred_at_seconds: float
    """Since 1970."""
    record: Record


def record_of(frame: Frame) -> OutboxRecord:
    """The record of an event; its value is exactly the recorded bytes."""
    try:
        fields = read_fields(frame.payload)
        event = decode(UsageEvent, frame.payload) if fields is None else event_of(fields)
    except InvalidRecord as invalid:
        # Another version wrote it. The stream makes it a dead letter, so it is not lost.
        log.error("seq %d is no event that this version knows, it is sent unchanged: %s", frame.seq, invalid)
        return OutboxRecord(frame.seq, "", EPOCH.timestamp(), Record(b"", frame.payload, []))
    record = encode_usage(event, frame.payload)
    return OutboxRecord(frame.seq, placed_by(event), event.occurred_at.timestamp(), record)


def by_partition(outgoing: Sequence[OutboxRecord], partitions: int) -> dict[int, list[OutboxRecord]]:
    """The events for each partition, in their order."""
    batches: dict[int, list[OutboxRecord]] = {}
    for one in outgoing:
        batches.setdefault(partition_of(one.key, partitions), []).append(one)
    return batches
