"""The outbox: keeps an event safe as soon as it is known, whatever Kafka does.

Each process has a directory, `root/<producer_id>/`, of append-only segment files. Recording is one
write() to the page cache: it survives the death of the process at any instruction. It survives
the death of the machine only with `fsync=True`.

Every event gets the next seq, even a lost one: by its gap the reconciler can name it.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import Counter, Gauge

from spendmeter.contract.fast_json import write_json
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.writers import SIGNED
from spendmeter.values.ids import uuid7
from spendmeter_gateway.outbox import recovery as left_behind
from spendmeter_gateway.outbox.frames import MAX_PAYLOAD_BYTES, encode
from spendmeter_gateway.outbox.lock import Lock, found
from spendmeter_gateway.outbox.reader import SEGMENT_SUFFIX, OutboxReader, Segment

log = logging.getLogger(__name__)

RECORDED = Counter("spendmeter_outbox_recorded_total", "Events recorded.", ["cost_source"])
_RECORDED = {source: RECORDED.labels(source.value) for source in CostSource}
LOST = Counter("spendmeter_outbox_lost_total", "Events that could not be recorded.", ["reason"])
UNFLUSHED = Counter(
    "spendmeter_outbox_unflushed_total", "Events recorded that could not be flushed to the disk."
)
BYTES = Gauge("spendmeter_outbox_bytes", "Bytes of events that await Kafka, including orphaned outboxes.")
FILL = Gauge("spendmeter_outbox_fill_ratio", "The outbox's size on disk as a share of its bound.")

MAX_SEGMENT_BYTES = 8 * 1024**2
# Logged before the bound is reached, once each time the share is exceeded.
WARN_AT_FILL = (0.5, 0.8)
_SECONDS_BETWEEN_LOSS_LOGS = 10.0


class OutboxFull(Exception):
    """The bound is reached: older events are kept, and this one was lost and counted."""


class OutboxUnwritable(Exception):
    """The file system refused: this event was lost and counted. The next may be recorded."""


class Outbox:
    """This process's own outbox. One thread at a time appends; the sender may be on another."""

    def __init__(
        self,
        directory: Path,
        lock: Lock,
        max_bytes: int,
        fsync: bool,
        carried: Sequence[left_behind.OrphanedOutbox],
    ) -> None:
        self.producer_id = directory.name
        self.unsent = OutboxReader(directory, self.producer_id, is_live=True)
        self._directory, self._lock, self._fsync = directory, lock, fsync
        self._max_bytes = max_bytes
        self._max_segment_bytes = min(MAX_SEGMENT_BYTES, max(max_bytes // 8, 1))
        self._carried = carried
        self._pid = os.getpid()
        self._seq = 0
        self._fd: int | None = None
        self._segment = Segment(directory, 0)
        self._segments_begun = 0
        self._warned_fill = self._quiet_until = 0.0
        self._losses = LossLog(self.producer_id)
        self._is_closed = False
        BYTES.set_function(lambda: float(self.waiting_bytes))
        FILL.set_function(lambda: self.size_bytes / max_bytes)

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        max_bytes: int,
        fsync: bool = False,
        is_signed: bool = False,
        predecessors: Sequence[left_behind.OrphanedOutbox] = (),
    ) -> "Outbox":
        """Begin an outbox under `root`, which processes of one host share.

        `max_bytes` bounds the events that await Kafka, including those of orphaned outboxes. `is_signed`: a
        record without a signature does not count as one of this outbox.

        Raises:
            OutboxUnwritable: it cannot be created. No event was lost yet.
        """
        directory = root / f"{uuid7(time.time_ns() // 1_000_000)}{SIGNED if is_signed else ''}"
        try:
            lock = found(directory)
            try:
                return cls(directory, lock, max_bytes, fsync, predecessors)
            except OSError:
                lock.remove()
                raise
        except OSError as error:
            raise OutboxUnwritable(f"no outbox in {root}: {error}") from error

    @staticmethod
    def predecessors(root: Path, *, can_sign: bool = False) -> list[left_behind.OrphanedOutbox]:
        """Lock the outboxes of processes that are gone. Raises OSError."""
        return left_behind.predecessors(root, can_sign=can_sign)

    @property
    def last_seq(self) -> int:
        """The seq given last, 0 before the first."""
        return self._seq

    @property
    def size_bytes(self) -> int:
        """The size on disk, including orphaned outboxes."""
        return self.unsent.size_bytes + sum(one.unsent.size_bytes for one in self._carried)

    @property
    def waiting_bytes(self) -> int:
        """The part of it that Kafka has not acknowledged."""
        return self.unsent.waiting_bytes + sum(one.unsent.waiting_bytes for one in self._carried)

    def append(self, draft_to_event: Callable[[int], UsageEvent]) -> UsageEvent:
        """Record the draft as an event with the next seq.

        Raises:
            OutboxFull, OutboxUnwritable: it is lost, logged and counted.
        """
        self._seq += 1
        event = draft_to_event(self._seq)
        payload = write_json(event)
        try:
            self._write(encode(self._seq, payload), len(payload))
        except OutboxFull:
            self._losses.add("full", self._seq, f"the bound of {self._max_bytes} bytes is reached")
            raise
        except OutboxUnwritable as error:
            self._losses.add("unwritable", self._seq, str(error))
            raise
        _RECORDED[event.cost_source].inc()
        return event

    def close(self) -> None:
        """Leave unsent events to the next process; if there are none, remove everything. Raises OSError."""
        self._is_closed = True
        self._end_segment()
        is_finished = not self.unsent.read(max_events=1)
        self.unsent.close()
        if is_finished:
            self._lock.remove()
        else:
            self._lock.release()

    def _write(self, frame: bytes, payload_bytes: int) -> None:
        if self._is_closed:
            raise OutboxUnwritable("the outbox is closed: the process is stopping")
        if os.getpid() != self._pid:
            raise OutboxUnwritable("the outbox belongs to the process that this one was forked from")
        if payload_bytes > MAX_PAYLOAD_BYTES:
            raise OutboxUnwritable(f"the event has {payload_bytes} bytes, more than {MAX_PAYLOAD_BYTES}")
        size = self.size_bytes + len(frame)
        if size > self._max_bytes:
            raise OutboxFull
        try:
            self._append(frame)
        except OSError as error:
            raise OutboxUnwritable(str(error)) from error
        self._report_fill(size)

    def _append(self, frame: bytes) -> None:
        if self._fd is None or self._segment.size + len(frame) > self._max_segment_bytes:
            self._begin_segment()
        assert self._fd is not None, "a segment was begun"
        written = os.write(self._fd, frame)
        if written < len(frame):
            # The disk is full. Nothing may follow half a frame, so the next event begins a new segment.
            self._end_segment()
            raise OSError(f"{written} of {len(frame)} bytes written")
        # The event is in the file and is sent from there, even if it cannot be flushed.
        self._segment.size += len(frame)
        if self._fsync:
            self._flush(self._fd)

    def _flush(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError as error:
            UNFLUSHED.inc()
            if time.monotonic() >= self._quiet_until:
                log.error("events are recorded, but not flushed to the disk: %s", error)
                self._quiet_until = time.monotonic() + _SECONDS_BETWEEN_LOSS_LOGS

    def _begin_segment(self) -> None:
        path = self._directory / f"{self._segments_begun + 1:012d}{SEGMENT_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        self._end_segment()
        self._fd, self._segment = fd, Segment(path, 0)
        self._segments_begun += 1
        self.unsent.add(self._segment)

    def _end_segment(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _report_fill(self, size: int) -> None:
        fill = size / self._max_bytes
        passed = max((level for level in WARN_AT_FILL if fill >= level), default=0.0)
        if passed > self._warned_fill:
            log.warning(
                "outbox %s is %d %% full (%d of %d bytes): Kafka does not acknowledge the events;"
                " at 100 %% new ones are lost",
                self.producer_id,
                fill * 100,
                size,
                self._max_bytes,
            )
        self._warned_fill = passed


class LossLog:
    """Counts each lost event, and logs it at most once in ten seconds."""

    def __init__(self, producer_id: str) -> None:
        self._producer_id = producer_id
        self._untold = 0
        self._quiet_until = 0.0

    def add(self, reason: str, seq: int, detail: str) -> None:
        """Note that the event with `seq` was lost."""
        LOST.labels(reason).inc()
        self._untold += 1
        if time.monotonic() >= self._quiet_until:
            log.error(
                "LOST: %d events could not be recorded, the last is seq %d of producer %s (%s): %s",
                self._untold,
                seq,
                self._producer_id,
                reason,
                detail,
            )
            self._untold = 0
            self._quiet_until = time.monotonic() + _SECONDS_BETWEEN_LOSS_LOGS
