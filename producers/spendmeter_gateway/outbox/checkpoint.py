"""The position of an outbox: what has been acknowledged, in a tiny file that a crash cannot spoil.

Two slots for what changes with every chunk; behind them the incarnation of spend.usage, which hardly ever
does, and which earlier versions do not read.
"""

import os
import struct
import weakref
import zlib
from pathlib import Path
from typing import NamedTuple

_SLOT = struct.Struct("<4sQQII")
_BODY = struct.Struct("<QQI")
_MAGIC = b"\xf5sp1"
_NAME = struct.Struct("<22sI")


class Checkpoint(NamedTuple):
    """How far an outbox has come."""

    acknowledged_seq: int
    """Every event up to it is stored in Kafka."""
    partitions: int
    """The count by which events are placed, so that a resend goes where its original went; 0 before any."""
    incarnation: str = ""
    """Of spend.usage: all that was acknowledged is in it, and what is in doubt may be. Empty before any, and
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
    """A torn write leaves none: then what is in doubt is sent again as to the same topic."""
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
