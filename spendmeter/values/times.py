"""Times on the wire: RFC 3339, UTC, always six decimals, so that they sort as text."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, NamedTuple
from zoneinfo import available_timezones

from pydantic import AwareDatetime, BeforeValidator, PlainSerializer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Also the earliest time on the wire: the window of a lifetime begins here."""
NO_WINDOWS_FROM = datetime(9000, 1, 1, tzinfo=UTC)
"""There are no windows from here on: their ends, or a zone's clock, might be beyond what a datetime holds."""
_MICROSECOND = timedelta(microseconds=1)
_MAX_REMEMBERED = 1_000
_AS_THIS = "write it as 2026-11-22T10:00:00Z"


class TimeSpan(NamedTuple):
    """`[start, end)`, in UTC."""

    start: datetime
    end: datetime


def format_time(time: datetime) -> str:
    """`2026-11-22T10:00:00.000000Z`, whatever zone the datetime came in."""
    # Not strftime: its %Y writes the year 999 with three digits, which no longer sorts as text.
    utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


remembered_time = lru_cache(_MAX_REMEMBERED)(format_time)
"""`format_time` for times that come again: bounds of windows, the moment of a round."""


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """The IANA zones of this machine. Cached, because listing them needs 30 ms."""
    # Some machines offer their own clock's zone under this name; on another machine it would differ.
    return frozenset(available_timezones() - {"localtime"})


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote, or any RFC 3339 time with an offset.

    Raises:
        ValueError: not a time, one without an offset, or one before 1970.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:50]!r} is not a time; {_AS_THIS}") from None
    # Checked first because we write this form, and read it for every event.
    if time.tzinfo is UTC and time >= EPOCH:
        return time
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset; {_AS_THIS}")
    return _in_utc(time)


remembered_parse = lru_cache(_MAX_REMEMBERED)(parse_time)
"""`parse_time` for times that come again, as of `remembered_time`."""


def _in_utc(time: datetime) -> datetime:
    try:
        utc = time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{time.isoformat()} lies outside the years 1970 to 9999 UTC") from None
    if utc < EPOCH:
        raise ValueError(f"{time.isoformat()} lies before 1970, where no window begins")
    return utc


def _to_utc(value: object) -> object:
    if isinstance(value, str):
        return parse_time(value)
    if isinstance(value, datetime):
        # In UTC at once: two datetimes of one zone compare by wall clock, which runs back in autumn.
        return value if value.tzinfo is None else _in_utc(value)
    raise ValueError(f"a time is text; {_AS_THIS}")


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
