"""The sender's side of an outbox: the events that Kafka has not acknowledged."""

import logging
import os
import struct
import threading
import weakref
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Counter

from spendmeter_gateway.outbox.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES, Frame, Parsed, parse

# Two slots for what changes with every chunk; behind them the incarnation of spend.usage, which hardly
# ever does, and which earlier versions do not read.
_SLOT = struct.Struct("<4sQQII")
_BODY = struct.Struct("<QQI")
_MAGIC = b"\xf5sp1"
_NAME = struct.Struct("<22sI")


class Checkpoint(NamedTuple):
    """How far an outbox has come."""

    acknowledged_seq: int
    """Every event up to it is stored in Kafka."""
    partitions: int
    """The partition count for events, so that a resend goes to the same partition; 0 before any."""
    incarnation: str = ""
    """Of spend.usage: it holds every acknowledged event, and perhaps those in doubt. Empty before any, and
    in files of earlier versions."""


class CheckpointFile:
    """Two slots written in turn, each checksummed: a torn write leaves the other, and costs a resend."""

    def __init__(self, path: Path) -> None:
        """Open, or create at the beginning. Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.close = weakref.finalize(self, os.close, self._fd)
        content = os.pread(self._fd, 2 * _SLOT.size + _NAME.size, 0)
        self._writes, position = _latest(content[: 2 * _SLOT.size])
        self.value = position._replace(incarnation=_incarnation(content[2 * _SLOT.size :]))

    def write(self, position: Checkpoint) -> None:
        """Keep a position; it survives the process, not the machine. Raises OSError."""
        if position.incarnation != self.value.incarnation:
            name = position.incarnation.encode()
            os.pwrite(self._fd, _NAME.pack(name, zlib.crc32(name.ljust(22, b"\0"))), 2 * _SLOT.size)
        self.value = position
        self._writes += 1
        body = (self._writes, position.acknowledged_seq, position.partitions)
        slot = _SLOT.pack(_MAGIC, *body, zlib.crc32(_BODY.pack(*body)))
        os.pwrite(self._fd, slot, self._writes % 2 * _SLOT.size)


def _incarnation(content: bytes) -> str:
    """A torn write leaves none: then events in doubt are sent again as if the topic were the same."""
    if len(content) < _NAME.size:
        return ""
    name, crc = _NAME.unpack(content)
    return name.rstrip(b"\0").decode("ascii", "replace") if zlib.crc32(name) == crc else ""


def _latest(content: bytes) -> tuple[int, Checkpoint]:
    writes, position = 0, Checkpoint(0, 0)
    for start in range(0, len(content) - _SLOT.size + 1, _SLOT.size):
        magic, count, seq, partitions, crc = _SLOT.unpack_from(content, start)
        if magic == _MAGIC and crc == zlib.crc32(_BODY.pack(count, seq, partitions)) and count > writes:
            writes, position = count, Checkpoint(seq, partitions)
    return writes, position


log = logging.getLogger(__name__)

CUT_BYTES = Counter(
    "spendmeter_outbox_cut_bytes_total", "Bytes of outboxes without a whole event: a torn end, or damage."
)

SEGMENT_SUFFIX = ".segment"
_POSITION_FILE = "position"
# One piece holds at least one frame of the largest size.
MAX_PIECE_BYTES = HEADER_BYTES + MAX_PAYLOAD_BYTES


@dataclass(slots=True)
class Segment:
    """A file of frames. `size` counts whole frames if we write it, all bytes if another process did."""

    path: Path
    size: int


class OutboxReader:
    """The events of one outbox in seq order, from the first that is not acknowledged.

    Segments with only acknowledged events are deleted. One thread reads and acknowledges;
    meanwhile another may append to the last segment or `add` one, and any thread may read sizes. No
    thread waits while another reads a file.
    """

    def __init__(self, directory: Path, producer_id: str, *, is_live: bool) -> None:
        """Open an outbox's directory; `is_live` if this process appends to it. Raises OSError."""
        self.producer_id = producer_id
        self._is_live = is_live
        self._position = CheckpointFile(directory / _POSITION_FILE)
        paths = sorted(directory.glob(f"*{SEGMENT_SUFFIX}"))
        self._segments = deque(Segment(path, path.stat().st_size) for path in paths)
        self._segments_lock = threading.Lock()
        self._fd: int | None = None
        self._offset = 0
        self._read: Parsed | None = None
        self.is_in_doubt = not is_live and self.position.partitions > 0
        """Whether the next events may be stored already: they were sent, and no answer came."""

    @property
    def size_bytes(self) -> int:
        """The segments' size on disk, acknowledged events of the first one included."""
        with self._segments_lock:
            return sum(segment.size for segment in self._segments)

    @property
    def waiting_bytes(self) -> int:
        """The part of it that is not acknowledged."""
        with self._segments_lock:
            return sum(segment.size for segment in self._segments) - self._offset

    @property
    def position(self) -> Checkpoint:
        return self._position.value

    def add(self, segment: Segment) -> None:
        """Add the segment to which all events are appended from now on; its writer maintains its `size`."""
        with self._segments_lock:
            self._segments.append(segment)

    def read(self, max_events: int) -> list[Frame]:
        """The next events in seq order, none if all are acknowledged; the same again until acknowledged.

        Raises OSError.
        """
        while (piece := self._next_piece()) is not None:
            parsed = self._parse(piece, max_events)
            stored = [frame for frame in parsed.frames if frame.seq <= self.position.acknowledged_seq]
            if parsed.frames and not stored:
                self._read = parsed
                return parsed.frames
            # Only if a process ended in the middle of a segment. What it had sent begins after these events
            # and is all in doubt, so reading starts there.
            self._cut(parsed.skipped_bytes)
            self._offset = stored[-1].end if stored else parsed.end
        return []

    def assign_partitions(self, partitions: int, incarnation: str = "") -> None:
        """Set the partition count and the topic's incarnation for events from now on."""
        self._keep(Checkpoint(self.position.acknowledged_seq, partitions, incarnation))

    def acknowledge(self, up_to_seq: int) -> None:
        """Acknowledge the events read last, up to this one: they will not be read again."""
        assert self._read is not None, "acknowledged before it was read"
        end = next(frame.end for frame in self._read.frames if frame.seq == up_to_seq)
        self._cut(self._read.skipped_bytes)
        self._offset, self._read, self.is_in_doubt = end, None, False
        self._keep(self.position._replace(acknowledged_seq=up_to_seq))
        self._drop_finished()

    def close(self) -> None:
        self._close_segment()
        self._position.close()

    def _keep(self, position: Checkpoint) -> None:
        try:
            self._position.write(position)
        except OSError as error:
            # A restart then resends needlessly, and the stream drops the resends.
            log.warning("the position of outbox %s could not be written: %s", self.producer_id, error)

    def _next_piece(self) -> bytes | None:
        self._drop_finished()
        if not self._segments or self._offset >= self._segments[0].size:
            return None
        if self._fd is None:
            self._fd = os.open(self._segments[0].path, os.O_RDONLY | os.O_CLOEXEC)
        left = self._segments[0].size - self._offset
        return os.pread(self._fd, min(left, MAX_PIECE_BYTES), self._offset)

    def _parse(self, piece: bytes, max_events: int) -> Parsed:
        """The frames of a piece; if it has none, those of the rest of its segment."""
        parsed = parse(piece, self._offset, max_events)
        if parsed.frames:
            return parsed
        size = self._segments[0].size
        if self._fd is not None and self._offset + len(piece) < size:
            parsed = parse(os.pread(self._fd, size - self._offset, self._offset), self._offset, max_events)
        return parsed if parsed.frames else Parsed([], size, size - self._offset)

    def _drop_finished(self) -> None:
        while self._segments and self._offset >= self._segments[0].size:
            if self._is_live and len(self._segments) == 1:
                return
            self._close_segment()
            with self._segments_lock:
                finished = self._segments.popleft()
                self._offset = 0
            try:
                finished.path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s, all of it acknowledged, could not be removed: %s", finished.path, error)

    def _close_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _cut(self, size_bytes: int) -> None:
        if size_bytes:
            CUT_BYTES.inc(size_bytes)
            log.error(
                "outbox %s: %d bytes after seq %d contain no whole event and were skipped",
                self.producer_id,
                size_bytes,
                self.position.acknowledged_seq,
            )
