"""Identifiers: ours, which sort by the time they were made, and hashes of keys as people read them."""

import hashlib
import os
import uuid
from datetime import datetime, timedelta

from spendmeter.values.times import EPOCH

_MILLISECONDS = (1 << 48) - 1
_IS_FREE = ~(0xF << 76 | 0x3 << 62)
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62
_HASH_CHARACTERS, _SHOWN_CHARACTERS = 64, 8
_HEX = frozenset("0123456789abcdef")


def uuid7(unix_ms: int) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7) of the given millisecond and 74 random bits."""
    return _uuid7(unix_ms, os.urandom(10))


def derived_uuid7(unix_ms: int, *seed: str) -> uuid.UUID:
    """A UUIDv7 of the given millisecond; its other bits follow from the seed, so it is always the same."""
    digest = hashlib.sha256("\0".join(seed).encode("utf-8", "surrogatepass")).digest()
    return _uuid7(unix_ms, digest[:10])


def _uuid7(unix_ms: int, last_octets: bytes) -> uuid.UUID:
    value = (unix_ms & _MILLISECONDS) << 80 | int.from_bytes(last_octets, "big")
    return uuid.UUID(int=value & _IS_FREE | _VERSION_AND_VARIANT)


def unix_ms_of(made: uuid.UUID) -> int:
    """The millisecond that a UUIDv7 was made in."""
    return made.int >> 80


def made_at(made: uuid.UUID) -> datetime:
    """The millisecond that a UUIDv7 was made in, from its first instant on."""
    return EPOCH + timedelta(milliseconds=unix_ms_of(made))


def is_hash(text: str) -> bool:
    """Whether it is a SHA-256 in hex, as LiteLLM names a key.

    >>> is_hash("0123456789abcdef" * 4), is_hash("my key")
    (True, False)
    """
    return len(text) == _HASH_CHARACTERS and _HEX.issuperset(text)


def short(text: str) -> str:
    """A hash as people compare it; anything else whole.

    >>> short("0123456789abcdef" * 4)
    '01234567…'
    """
    return f"{text[:_SHOWN_CHARACTERS]}…" if is_hash(text) else text
