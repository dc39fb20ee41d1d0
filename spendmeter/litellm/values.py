"""Parses single values of LiteLLM's budgets: amounts, times and durations. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd
from spendmeter.domain.window import window_of
from spendmeter.values.period import read_period
from spendmeter.values.times import EPOCH

_DURATION = re.compile(r"(\d{1,7})(mo|w|d|h|m|s)")
_NAMED = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d"}
# LiteLLM resets these on the calendar (its `duration_parser`, 1.106.2): 30 days mean a month.
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
    """A text that LiteLLM would not accept as a budget_duration either."""


class ResetPeriod(NamedTuple):
    """A budget's `period`, and its `starts_at` if the period is a duration."""

    period: str
    starts_at: datetime | None = None


def period_of(duration: str | None, now: datetime) -> ResetPeriod:
    """The period of a budget_duration for a key made at `now`; lifetime if there is none.

    Durations without a calendar period begin where LiteLLM aligns them: days and weeks at midnight,
    hours, minutes and seconds at the last multiple of themselves. UTC.

    Raises:
        InvalidDuration: not a duration, of zero length, or several months.
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


_DAY_SECONDS = 86_400
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001 - of whichever zone


class InvalidLimit(ValueError):
    """An invalid budget; the message says what is wrong and how to correct it."""


class Term(NamedTuple):
    """LiteLLM's resets in a budget's fields."""

    period: str
    starts_at: datetime | None = None
    timezone: str = "UTC"


def amount_of(name: str, value: object) -> NanoUsd | None:
    """An amount that LiteLLM keeps as a float; None for none, or for 0, at which LiteLLM itself refuses."""
    if value is None:
        return None
    try:
        amount = from_float_usd(float(value)) if isinstance(value, int | float | str) else NanoUsd(-1)
    except (InvalidAmount, ValueError, OverflowError):
        amount = NanoUsd(-1)
    if amount < 0:
        raise InvalidLimit(f"{name} {value!r} is no amount of USD; set it to one above 0, or to null")
    return amount or None


def term_of(name: str, duration: object, reset_at: object, timezone: str, now: datetime) -> Term:
    """The windows between LiteLLM's resets.

    Calendar windows if the resets are on the calendar; otherwise windows of that length, one of which ends at
    the reset that LiteLLM shows. They are the same for each of LiteLLM's resets.
    """
    try:
        period = period_of(None if duration is None else str(duration), now).period
    except InvalidDuration as error:
        raise InvalidLimit(f"{name}: {error}") from None
    if period == "lifetime":
        return Term(period)
    reset = None if reset_at is None else time_of("budget_reset_at", reset_at)
    is_duration = read_period(period).kind == "duration"
    if not is_duration and (period == "month" or reset is None or _is_boundary(period, timezone, reset)):
        return Term(period, None, timezone)
    as_tiles = {"hour": "PT1H", "day": "P1D", "week": "P7D"}.get(period, period)
    return Term(as_tiles, _first_tile(read_period(as_tiles).seconds, timezone, reset), timezone)


def _first_tile(seconds: int, timezone: str, reset: datetime | None) -> datetime:
    """The start of windows of that length, one of which ends at the reset; whole days follow the
    local clock.
    """
    try:
        zone = ZoneInfo(timezone) if seconds % _DAY_SECONDS == 0 else UTC
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidLimit(f"litellm_settings.timezone {timezone!r} is no IANA time zone") from None
    first = _MONDAY.replace(tzinfo=zone)
    if reset is None:
        return first.astimezone(UTC)
    # Between two times of one zone Python counts by its clock.
    return (first + (reset.astimezone(zone) - first) % timedelta(seconds=seconds)).astimezone(UTC)


def _is_boundary(period: str, timezone: str, time: datetime) -> bool:
    budget = Budget(
        id="b", match={}, limit_nanousd=NanoUsd(1), period=period, timezone=timezone, updated_at=EPOCH
    )
    window = window_of(budget, time)
    return window is not None and window.start == time


def time_of(name: str, value: object) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidLimit(f"{name} {value!r} is no time") from None
    if not isinstance(value, datetime):
        raise InvalidLimit(f"{name} {value!r} is no time")
    # LiteLLM sometimes leaves out the offset and means UTC.
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
