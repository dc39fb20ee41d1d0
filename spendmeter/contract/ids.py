"""Identifiers that sort by the time they were made."""

import os
import uuid
from datetime import datetime, timedelta

from spendmeter.contract.times import EPOCH

_MILLISECONDS = (1 << 48) - 1
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_RANDOM = (1 << 76) - 1 & ~(0b11 << 62)


def uuid7(unix_ms: int) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7) of the given millisecond and 74 random bits."""
    return uuid.UUID(int=_value(unix_ms))


def uuid7_text(unix_ms: int) -> str:
    """The same as text, for who needs no more: a fifth of the time."""
    digits = f"{_value(unix_ms):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _value(unix_ms: int) -> int:
    # One call of the operating system, where bits of each part's own are two.
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM
    return (unix_ms & _MILLISECONDS) << 80 | random | _VERSION_AND_VARIANT


def made_at(made: uuid.UUID) -> datetime:
    """The millisecond that a UUIDv7 was made in, from its first instant on."""
    return EPOCH + timedelta(milliseconds=made.int >> 80)
