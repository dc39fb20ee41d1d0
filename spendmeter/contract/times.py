"""Times on the wire: RFC 3339, UTC, always six decimals, so that they sort as text."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator, PlainSerializer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def format_time(time: datetime) -> str:
    """`2026-11-22T10:00:00.000000Z`, whatever zone the datetime came in."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote, or any RFC 3339 time with an offset.

    Raises:
        ValueError: not a time, or one without an offset.
    """
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset; write it as 2026-11-22T10:00:00Z")
    return time.astimezone(UTC)


def _to_utc(value: object) -> object:
    return parse_time(value) if isinstance(value, str) else value


def from_unix_us(microseconds: int) -> datetime:
    """The UTC time that many microseconds after 1970, exactly (no float on the way)."""
    return EPOCH + timedelta(microseconds=microseconds)


def to_unix_us(time: datetime) -> int:
    """Whole microseconds since 1970, exactly."""
    return (time - EPOCH) // _MICROSECOND


UtcTime = Annotated[
    AwareDatetime, BeforeValidator(_to_utc), PlainSerializer(format_time, return_type=str, when_used="json")
]
"""A datetime that is read from and written to RFC 3339 UTC with microseconds."""
