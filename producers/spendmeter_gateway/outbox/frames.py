"""Frames: how an outbox file holds one event after another, so that any cut is visible; and their records.

    magic 4 | length of payload 4 | seq 8 | crc32 of length, seq and payload 4 | payload: the event's JSON

The magic contains a byte that UTF-8 text never has, so the next whole frame can be found after damage.
"""

import logging
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from spendmeter.contract.fast_json import event_of, read_fields
from spendmeter.contract.records import InvalidRecord, Record, decode, encode_usage, placed_by
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import partition_of
from spendmeter.values.times import EPOCH

log = logging.getLogger(__name__)

MAGIC = b"\xf5sm1"
_HEADER = struct.Struct("<4sIQI")
_CHECKED = struct.Struct("<IQ")
HEADER_BYTES = _HEADER.size
# Far above any event: text fields and tags are bounded where events are made.
MAX_PAYLOAD_BYTES = 512 * 1024


class Frame(NamedTuple):
    """One whole frame, and its end in its file."""

    seq: int
    payload: bytes
    end: int


class Parsed(NamedTuple):
    """The content of a piece of a segment."""

    frames: list[Frame]
    end: int
    """What follows it belongs to no whole frame yet: a frame's beginning, or damage."""
    skipped_bytes: int
    """Skipped damage between whole frames."""


def encode(seq: int, payload: bytes) -> bytes:
    """One frame, for a single write."""
    crc = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), seq)))
    return _HEADER.pack(MAGIC, len(payload), seq, crc) + payload


def parse(piece: bytes, offset: int, max_frames: int) -> Parsed:
    """The whole frames, at most so many, in bytes that begin at `offset` of their file."""
    frames: list[Frame] = []
    position, skipped = 0, 0
    while len(frames) < max_frames:
        frame = _frame_at(piece, position, offset)
        if frame is None:
            found = _next_frame(piece, position + 1, offset)
            if found is None:
                break
            skipped += found - position
            position = found
            continue
        frames.append(frame)
        position = frame.end - offset
    return Parsed(frames, offset + position, skipped)


def _next_frame(piece: bytes, position: int, offset: int) -> int | None:
    while (position := piece.find(MAGIC, position)) >= 0:
        if _frame_at(piece, position, offset) is not None:
            return position
        position += 1
    return None


def _frame_at(piece: bytes, position: int, offset: int) -> Frame | None:
    start = position + HEADER_BYTES
    if start > len(piece):
        return None
    magic, length, seq, crc = _HEADER.unpack_from(piece, position)
    end = start + length
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or end > len(piece):
        return None
    payload = piece[start:end]
    if zlib.crc32(payload, zlib.crc32(_CHECKED.pack(length, seq))) != crc:
        return None
    return Frame(seq, payload, offset + end)


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
