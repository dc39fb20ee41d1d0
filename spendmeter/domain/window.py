"""Windows: the time span that an event of a budget belongs to. A function of the budget alone."""

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from spendmeter.contract.budget import Budget
from spendmeter.values.period import Period, read_period
from spendmeter.values.times import EPOCH, NO_WINDOWS_FROM

# A closed window is kept this long for late events; even later events are counted from there on.
KEEP_CLOSED_WINDOWS = timedelta(days=7)

_HOUR = timedelta(hours=1)
_DAY_SECONDS = 86_400
_Step = Callable[[datetime], datetime]


class Window(NamedTuple):
    """`[start, end)` in UTC; `end` is None for a lifetime."""

    start: datetime
    end: datetime | None

    def holds(self, time: datetime) -> bool:
        """Whether that moment is in the window: the start is, the end is not."""
        return self.start <= time and (self.end is None or time < self.end)


def window_of(budget: Budget, time: datetime) -> Window | None:
    """The budget's window at `time`; None if the budget had not begun by then, or if `time`
    is NO_WINDOWS_FROM or later.

    The windows of one budget tile time: every moment from its beginning is in exactly one. A reset
    splits its period into two windows, before and after it. A
    beginning within a period makes the first window a short one.
    """
    if time >= NO_WINDOWS_FROM:
        return None
    time = time.astimezone(UTC)
    start, end = _period_of(budget, time)
    if budget.starts_at is not None:
        if time < budget.starts_at:
            return None
        start = max(start, budget.starts_at)
    reset = budget.reset_at
    if reset is not None and start < reset and (end is None or reset < end):
        if time >= reset:
            return Window(reset, end)
        return Window(start, reset)
    return Window(start, end)


def _period_of(budget: Budget, time: datetime) -> Window:
    period = read_period(budget.period)
    match period.kind:
        case "lifetime":
            return Window(budget.starts_at or EPOCH, None)
        case "hour":
            return _hour_of(budget.zone, time)
        case "day" | "week" | "month" | "year":
            return _calendar_period_of(period, budget.zone, time)
        case "duration":
            assert budget.starts_at is not None, "the model refuses a duration without an anchor"
            return _duration_of(period.seconds, budget.starts_at, budget.zone, time)


def _hour_of(zone: ZoneInfo, time: datetime) -> Window:
    """The hour of the local clock. An hour that the clock repeats makes two windows, not a long one."""
    start = _top_of_hour(zone, time)
    end = start + _HOUR
    # Only if the clock moves by less than an hour (Lord Howe Island: 30 minutes) do the full
    # hours before and after disagree; then the change itself bounds both windows.
    if _minutes_past(zone, start) != _minutes_past(zone, time):
        start = _change_between(zone, start, time)
    last = end - timedelta(microseconds=1)
    if _minutes_past(zone, last) != _minutes_past(zone, time):
        end = _change_between(zone, time, last)
    return Window(start, end)


def _minutes_past(zone: ZoneInfo, time: datetime) -> timedelta:
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    return offset % _HOUR


def _top_of_hour(zone: ZoneInfo, time: datetime) -> datetime:
    shift = _minutes_past(zone, time)
    shifted = time + shift
    return shifted.replace(minute=0, second=0, microsecond=0) - shift


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second at which the zone's minutes past the hour change between two moments."""
    old = _minutes_past(zone, before)
    low, high = 0, int((after - before).total_seconds()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _minutes_past(zone, before + timedelta(seconds=middle)) == old:
            low = middle
        else:
            high = middle
    return before.replace(microsecond=0) + timedelta(seconds=high)


def _calendar_period_of(period: Period, zone: ZoneInfo, time: datetime) -> Window:
    local = time.astimezone(zone).replace(tzinfo=None)
    start = _calendar_start(period, local)
    return _tile(time, zone, start, lambda s: _shift(period, s, -1), lambda s: _shift(period, s, +1))


def _calendar_start(period: Period, local: datetime) -> datetime:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if period.kind == "week":
        return midnight - timedelta(days=(midnight.weekday() - period.first_day) % 7)
    if period.kind == "month":
        start = _in_month(midnight, period.first_day, 0)
        return start if start <= midnight else _in_month(midnight, period.first_day, -1)
    if period.kind == "year":
        return midnight.replace(month=1, day=1)
    return midnight


def _shift(period: Period, start: datetime, by: int) -> datetime:
    if period.kind == "day":
        return start + timedelta(days=by)
    if period.kind == "week":
        return start + timedelta(weeks=by)
    if period.kind == "year":
        return start.replace(year=start.year + by)
    return _in_month(start, period.first_day, by)


def _in_month(near: datetime, day: int, by: int) -> datetime:
    """That day `by` months later; a month without such a day begins on its last."""
    months = near.year * 12 + near.month - 1 + by
    year, month = months // 12, months % 12 + 1
    return near.replace(year=year, month=month, day=min(day, monthrange(year, month)[1]))


def _duration_of(seconds: int, anchor: datetime, zone: ZoneInfo, time: datetime) -> Window:
    """Whole days follow the local clock (23 or 25 hours across a change); anything finer is exact."""
    if seconds % _DAY_SECONDS:
        length = timedelta(seconds=seconds)
        start = anchor + (time - anchor) // length * length
        return Window(start, start + length)
    length = timedelta(seconds=seconds)
    local_anchor = anchor.astimezone(zone).replace(tzinfo=None)
    local = time.astimezone(zone).replace(tzinfo=None)
    start = local_anchor + (local - local_anchor) // length * length
    return _tile(time, zone, start, lambda s: s - length, lambda s: s + length)


def _tile(time: datetime, zone: ZoneInfo, start: datetime, previous: _Step, following: _Step) -> Window:
    """The tile that holds `time`, given the local start that its wall clock suggests.

    The wall clock misleads by one tile where it runs back over a boundary (midnight in
    America/St_Johns until 2011), hence the two corrections.
    """
    if _instant(start, zone) > time:
        start = previous(start)
    elif _instant(following(start), zone) <= time:
        start = following(start)
    return Window(_instant(start, zone), _instant(following(start), zone))


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """A local time as UTC: the first of two readings; a skipped time is read by the clock before the change.

    A skipped midnight is therefore the moment of the jump.
    """
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


# When full, clear it: an LRU costs more than computing the windows again.
MAX_REMEMBERED_RULES = 10_000

_Rule = tuple[str, str, datetime | None, datetime | None]


class WindowCache:
    """The latest window of each rule."""

    def __init__(self) -> None:
        self._windows: dict[_Rule, Window] = {}

    def window_of(self, budget: Budget, time: datetime) -> Window | None:
        """Like `window.window_of`, which reads nothing else of the budget."""
        rule = (budget.period, budget.timezone, budget.starts_at, budget.reset_at)
        known = self._windows.get(rule)
        if known is not None and known.holds(time):
            return known
        window = window_of(budget, time)
        if window is not None:
            if len(self._windows) >= MAX_REMEMBERED_RULES:
                self._windows.clear()
            self._windows[rule] = window
        return window
