"""A stretch of time that a question is about, and the pieces that it is shown in. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from spendmeter.values.times import TimeSpan

MAX_SPAN = timedelta(days=400)
MAX_STEPS = 1_000
"""Points of a chart."""


class Interval(StrEnum):
    """The pieces of a chart."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class InvalidSpan(ValueError):
    """A span that is not answered; the message says which would be."""


def checked(span: TimeSpan) -> TimeSpan:
    """The span. Raises InvalidSpan: it is empty, or longer than a question may be."""
    if span.end <= span.start:
        raise InvalidSpan("it ends before it begins; give an end after the start")
    if span.end - span.start > MAX_SPAN:
        raise InvalidSpan(f"it is longer than {MAX_SPAN.days} days; ask for less at once")
    return span


def midnight(time: datetime, zone: ZoneInfo, days: int = 0) -> datetime:
    """The local midnight that began the day of `time`, or one some days later, in UTC."""
    local = time.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    return (local + timedelta(days=days)).replace(tzinfo=zone).astimezone(UTC)


def month_start(time: datetime, zone: ZoneInfo, months: int = 0) -> datetime:
    """The local start of the month of `time`, or of one some months later, in UTC."""
    local = time.astimezone(zone)
    number = local.year * 12 + local.month - 1 + months
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=zone).astimezone(UTC)


def steps(span: TimeSpan, interval: Interval, zone: ZoneInfo) -> list[datetime]:
    """Where each piece of the span begins, in UTC. Raises InvalidSpan: there are more than MAX_STEPS."""
    found: list[datetime] = []
    at = _first(span.start, interval, zone)
    while at < span.end:
        found.append(at)
        if len(found) > MAX_STEPS:
            raise InvalidSpan(f"it has more than {MAX_STEPS:,} pieces; choose longer ones, or a shorter time")
        at = _next(at, interval, zone)
    return found


def latest_first(span: TimeSpan) -> Iterator[TimeSpan]:
    """The span in stretches, the latest first and each twice as long as the one before, from a day on."""
    end, length = span.end, timedelta(days=1)
    while end > span.start:
        start = max(span.start, end - length)
        yield TimeSpan(start, end)
        end, length = start, length * 2


def _first(time: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    match interval:
        case Interval.HOUR:
            return time.replace(minute=0, second=0, microsecond=0)
        case Interval.DAY:
            return midnight(time, zone)
        case Interval.MONTH:
            return month_start(time, zone)


def _next(at: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    match interval:
        case Interval.HOUR:
            return at + timedelta(hours=1)
        case Interval.DAY:
            return midnight(at + timedelta(hours=1), zone, 1)
        case Interval.MONTH:
            return month_start(at, zone, 1)
