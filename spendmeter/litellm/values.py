"""Single values of LiteLLM's budgets: its amounts, times and durations, as a budget says them. Pure."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd
from spendmeter.domain.window import window_of
from spendmeter.litellm.durations import InvalidDuration, period_of
from spendmeter.values.period import read_period
from spendmeter.values.times import EPOCH

_DAY_SECONDS = 86_400
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001 - of whichever zone


class InvalidLimit(ValueError):
    """A budget that cannot be; the message names what is wrong and how to mend it."""


class Term(NamedTuple):
    """When LiteLLM resets, as a budget says it."""

    period: str
    starts_at: datetime | None = None
    timezone: str = "UTC"


def amount_of(name: str, value: object) -> NanoUsd | None:
    """An amount that LiteLLM holds as a float; None for none, or for 0, which LiteLLM itself refuses at."""
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
    """The windows that LiteLLM's resets make.

    On the calendar where they fall on it, else tiles of that length through the reset that LiteLLM
    has named: the same tiles whichever reset of them it was.
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
    """Where the tiles of that length begin, one of which ends at the reset; whole days by the local clock."""
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
    # LiteLLM leaves out the offset at times and means UTC.
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
