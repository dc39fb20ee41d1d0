"""Periods as text: which stretches of the calendar, or of the clock, a budget is counted over."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

NAMED_PERIODS = ("hour", "day", "week", "month", "year", "lifetime")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LAST_DAY = 31
# Weeks or days and times; months and years have no fixed length, so they are named periods only.
_ISO_DURATION = re.compile(
    r"P(?=.)(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?=\d)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,7})S)?)?",
    re.ASCII,
)
# A process reads far fewer different ones.
_MAX_REMEMBERED = 1_000


class Period(NamedTuple):
    """What a budget's `period` means."""

    kind: Literal["hour", "day", "week", "month", "year", "lifetime", "duration"]
    first_day: int = 0
    """Of a week: 0, Monday, to 6. Of a month: 1 to 31; one that has no such day begins on its last."""
    seconds: int = 0
    """Of a duration: its length."""


@lru_cache(_MAX_REMEMBERED)
def read_period(text: str) -> Period:
    """The period that `month`, `week:sunday`, `month:15` or `P14D` names.

    Raises:
        ValueError: it names none; the message says what there is.
    """
    kind, separator, anchor = text.partition(":")
    match kind:
        case "week":
            return Period("week", _weekday(text, anchor) if separator else 0)
        case "month":
            return Period("month", _day_of_month(text, anchor) if separator else 1)
        case "hour" | "day" | "year" | "lifetime" if not separator:
            return Period(kind)
        case _:
            return Period("duration", seconds=iso_duration_seconds(text))


def plain_period(text: str) -> str:
    """The one way to write a period: `week:monday` is `week`, so that to say so changes no window.

    Raises:
        ValueError: as `read_period`.
    """
    period = read_period(text)
    default_first_day = 1 if period.kind == "month" else 0
    return text.partition(":")[0] if period.first_day == default_first_day else text


def _weekday(text: str, anchor: str) -> int:
    if anchor not in WEEKDAYS:
        raise ValueError(f"period {text!r}: a week begins on {', '.join(WEEKDAYS)}; write week:sunday")
    return WEEKDAYS.index(anchor)


def _day_of_month(text: str, anchor: str) -> int:
    # Not int() alone, which also reads "+5", "05" and other alphabets' digits.
    if anchor not in {str(day) for day in range(1, _LAST_DAY + 1)}:
        raise ValueError(f"period {text!r}: a month begins on one of its days 1 to 31; write month:15")
    return int(anchor)


def iso_duration_seconds(text: str) -> int:
    """Length in seconds of a fixed-length ISO 8601 duration such as `PT6H` or `P14D`.

    Raises:
        ValueError: not such a duration, or one of zero length.
    """
    parsed = _ISO_DURATION.fullmatch(text)
    if parsed is None:
        raise ValueError(
            f"period {text!r} is neither one of {', '.join(NAMED_PERIODS)}"
            " (week:sunday and month:15 say where they begin)"
            " nor an ISO 8601 duration of weeks, days, hours, minutes or seconds such as P14D or PT6H"
        )
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in parsed.groups())
    length = ((weeks * 7 + days) * 24 + hours) * 3600 + minutes * 60 + seconds
    if length == 0:
        raise ValueError(f"period {text!r} has no length; give at least PT1S")
    return length
