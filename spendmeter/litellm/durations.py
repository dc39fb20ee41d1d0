"""LiteLLM's `budget_duration` (`1d`, `30d`, `1mo`, `12h`) as the period of a budget. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_DURATION = re.compile(r"(\d{1,7})(mo|w|d|h|m|s)")
_NAMED = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d"}
# LiteLLM resets these on the calendar (litellm_core_utils/duration_parser.py, 1.106.2): 30 days mean a month.
_ON_THE_CALENDAR = {
    "1h": "hour",
    "60m": "hour",
    "1d": "day",
    "24h": "day",
    "7d": "week",
    "1w": "week",
    "30d": "month",
    "1mo": "month",
}


class InvalidDuration(ValueError):
    """A text that LiteLLM would not take for a budget_duration either."""


class ResetPeriod(NamedTuple):
    """What a budget needs to know: its `period`, and `starts_at` where the period is a duration."""

    period: str
    starts_at: datetime | None = None


def period_of(duration: str | None, now: datetime) -> ResetPeriod:
    """The period that a budget_duration means for a key made at `now`; lifetime for none.

    Durations without a calendar period begin where LiteLLM aligns them: days and weeks at midnight,
    hours, minutes and seconds at the last multiple of themselves. UTC.

    Raises:
        InvalidDuration: no such duration, of zero length, or several months.
    """
    if not duration:
        return ResetPeriod("lifetime")
    text = _NAMED.get(duration.strip().lower(), duration)
    if text in _ON_THE_CALENDAR:
        return ResetPeriod(_ON_THE_CALENDAR[text])
    parsed = _DURATION.fullmatch(text)
    if parsed is None:
        raise InvalidDuration(f"budget_duration {duration!r}: write a number and one of s, m, h, d, w, mo")
    count, unit = int(parsed[1]), parsed[2]
    if count == 0:
        raise InvalidDuration(f"budget_duration {duration!r} has no length")
    if unit == "mo":
        raise InvalidDuration(
            f"budget_duration {duration!r}: only 1mo resets on the calendar; use 1mo or days"
        )
    iso = f"P{count}{unit.upper()}" if unit in "dw" else f"PT{count}{unit.upper()}"
    return ResetPeriod(iso, _aligned(count, unit, now.astimezone(UTC)))


def _aligned(count: int, unit: str, now: datetime) -> datetime:
    second = now.replace(microsecond=0)
    minute = second.replace(second=0)
    hour = minute.replace(minute=0)
    midnight = hour.replace(hour=0)
    if unit == "s":
        return minute + timedelta(seconds=second.second // count * count)
    if unit == "m":
        return hour + timedelta(minutes=minute.minute // count * count)
    if unit == "h":
        return midnight + timedelta(hours=hour.hour // count * count)
    return midnight
