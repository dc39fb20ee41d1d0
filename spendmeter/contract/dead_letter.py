"""The dead letter: a record that could not be read or counted, kept whole with the reason."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from spendmeter.contract.wire import Whole, Wire
from spendmeter.values.times import UtcTime

MAX_HELD_BYTES = 2 * 1024 * 1024
"""The largest record in a dead letter. This many bytes in base64 fit the topic. With compression, a sender of
zeros can get larger records past the broker, and a dead letter that cannot be sent would stop the stream."""
MAX_HELD_HEADERS = 100
MAX_HEADER_CHARACTERS = 1_000


class Reason(StrEnum):
    """Why a record was put aside."""

    NOT_JSON = "not_json"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID = "invalid"
    """Decoded, but a field is missing or has an invalid value; `detail` names it."""
    FROM_THE_FUTURE = "from_the_future"
    REFUSED_BY_HISTORY = "refused_by_history"
    FOREIGN_PRODUCER = "foreign_producer"
    """Written under another source's `producer_id` (domain/writers.py)."""


class Reader(StrEnum):
    """Who put a record aside. Both read spend.usage: whatever one of them did not put aside, it counted."""

    UNKNOWN = ""
    """For dead letters from before this field existed."""
    STREAM = "stream"
    HISTORY = "history"


class Resolution(StrEnum):
    """What was decided about a dead letter."""

    REPLAYED = "replayed"
    COUNTED = "counted"
    """Another copy of its event had been counted, so there was nothing to replay."""
    DISCARDED = "discarded"


class NotHeld(LookupError):
    """The record was too large for the dead letter; it is only in its own topic."""


class DeadLetter(Wire):
    """Identified by the record's position, so that two processes write the same dead letter for it."""

    source_topic: str
    source_partition: Annotated[Whole, Field(ge=0, lt=2**31)]
    source_offset: Annotated[Whole, Field(ge=0, lt=2**63)]
    reason: Reason
    detail: str
    component: str
    key: str
    payload: str
    encoding: Literal["utf-8", "base64", "absent"] = "utf-8"
    """The encoding of `key` and `payload`; `absent`: the record is larger than MAX_HELD_BYTES."""
    headers: dict[str, str] = Field(default_factory=dict)
    failed_at: UtcTime
    reader: Reader = Reader.UNKNOWN

    resolution: Resolution | None = None
    """A person's decision, in a second record under the same key, without the payload."""
    resolved_at: UtcTime | None = None
    resolved_by: str = ""

    @property
    def id(self) -> str:
        """`topic:partition:offset` of the record."""
        return f"{self.source_topic}:{self.source_partition}:{self.source_offset}"

    def record_bytes(self) -> tuple[bytes, bytes]:
        """The unchanged key and value, for a replay. Raises NotHeld."""
        if self.encoding == "absent":
            raise NotHeld(
                f"the record was too large to hold; read it from {self.id} while that topic keeps it"
            )
        if self.encoding == "base64":
            return b64decode(self.key), b64decode(self.payload)
        return self.key.encode(), self.payload.encode()


def hold(key: bytes | None, value: bytes | None) -> dict[str, str]:
    """The fields `key`, `payload` and `encoding` for any bytes: readable if they are text."""
    key, value = key or b"", value or b""
    if len(key) + len(value) > MAX_HELD_BYTES:
        return not_held()
    try:
        held = {"key": key.decode(), "payload": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return _in_base64(key, value)
    # JSON writes a control character as six characters, so text can be larger than base64.
    outgrown = len(json.dumps(held, ensure_ascii=False).encode()) > MAX_HELD_BYTES
    return _in_base64(key, value) if outgrown else held


def not_held() -> dict[str, str]:
    """The same fields for a record that is too large for a dead letter."""
    return {"key": "", "payload": "", "encoding": "absent"}


def hold_headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The field `headers`, for people: the first MAX_HELD_HEADERS, each cut, a missing value as
    empty text.
    """
    shown = list(headers)[:MAX_HELD_HEADERS]
    return {
        name[:MAX_HEADER_CHARACTERS]: (text or b"").decode(errors="replace")[:MAX_HEADER_CHARACTERS]
        for name, text in shown
    }


def _in_base64(key: bytes, value: bytes) -> dict[str, str]:
    return {"key": b64encode(key).decode(), "payload": b64encode(value).decode(), "encoding": "base64"}
