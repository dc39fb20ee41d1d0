"""The dead letter: a record that could not be read or counted, kept whole with the reason."""

from base64 import b64decode, b64encode
from enum import StrEnum
from typing import Literal

from pydantic import Field

from spendmeter.contract.times import UtcTime
from spendmeter.contract.wire import Wire


class Reason(StrEnum):
    NOT_JSON = "not_json"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID = "invalid"
    """Decoded, but a field is missing or has a value it cannot have; `detail` names it."""
    FROM_THE_FUTURE = "from_the_future"
    REFUSED_BY_HISTORY = "refused_by_history"


class DeadLetter(Wire):
    """Identified by where the record stood, so that two processes that meet it tell of one letter."""

    source_topic: str
    source_partition: int
    source_offset: int
    reason: Reason
    detail: str
    component: str
    key: str
    payload: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    """How `key` and `payload` hold the record's bytes."""
    headers: dict[str, str] = Field(default_factory=dict)
    failed_at: UtcTime

    @property
    def id(self) -> str:
        """`topic:partition:offset` of the record."""
        return f"{self.source_topic}:{self.source_partition}:{self.source_offset}"

    def record_bytes(self) -> tuple[bytes, bytes]:
        """Key and value exactly as they were, for a replay."""
        if self.encoding == "base64":
            return b64decode(self.key), b64decode(self.payload)
        return self.key.encode(), self.payload.encode()


def hold(key: bytes | None, value: bytes | None) -> dict[str, str]:
    """The fields `key`, `payload` and `encoding` for any bytes: readable where they are text."""
    key, value = key or b"", value or b""
    try:
        return {"key": key.decode(), "payload": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"key": b64encode(key).decode(), "payload": b64encode(value).decode(), "encoding": "base64"}
