"""Identifiers that sort by the time they were made."""

import secrets
import uuid
from datetime import datetime, timedelta

from spendmeter.contract.times import EPOCH


def uuid7(unix_ms: int) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7) of the given millisecond and 74 random bits."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return uuid.UUID(int=value)


def made_at(made: uuid.UUID) -> datetime:
    """The millisecond that a UUIDv7 was made in, from its first instant on."""
    return EPOCH + timedelta(milliseconds=made.int >> 80)
