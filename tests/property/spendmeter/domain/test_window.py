"""Law of windows: those of one budget tile time, in every zone, for every period, with any reset."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from spendmeter.contract.budget import Budget
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import WindowCache, window_of
from spendmeter.values.period import NAMED_PERIODS, WEEKDAYS
from spendmeter.values.times import EPOCH
from tests.builders import budget

MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
FIRST = datetime(1970, 1, 2)  # noqa: DTZ001
LAST = datetime(2040, 1, 1)  # noqa: DTZ001

# Zones with every kind of change there is: half an hour (Lord Howe), at midnight (Cairo, Beirut, Havana),
# over midnight (St. John's until 2011), a day left out (Apia, Kwajalein), odd seconds (Monrovia until 1972),
# two hours (Troll), a quarter of an hour off (Chatham, Kathmandu), set back for Ramadan (Casablanca).
PECULIAR = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Caracas",
    "America/Godthab",
    "America/Havana",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "UTC",
]

zones = st.sampled_from(PECULIAR) | st.timezone_keys(allow_prefix=False).filter(
    lambda zone: zone != "localtime"
)
durations = st.builds(
    lambda days, hours, minutes: f"P{days}DT{hours}H{minutes}M",
    st.integers(0, 20),
    st.integers(0, 30),
    st.integers(1, 90),
) | st.integers(1, 40).map(lambda days: f"P{days}D")
anchored = st.sampled_from(WEEKDAYS).map(lambda day: f"week:{day}") | st.integers(1, 31).map(
    lambda day: f"month:{day}"
)
moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    period = draw(st.sampled_from(NAMED_PERIODS) | anchored | durations)
    needs_anchor = period.startswith("P")
    return budget(
        period=period,
        timezone=draw(zones),
        starts_at=draw(moments if needs_anchor else st.none() | moments),
        reset_at=draw(st.none() | moments),
    )


def _change_after(zone: ZoneInfo, time: datetime) -> datetime:
    """When the zone's clock next changes, or the time itself if it does not within 14 months."""
    month = timedelta(days=30)
    for months in range(14):
        low, high = time + months * month, time + (months + 1) * month
        if low.astimezone(zone).utcoffset() == high.astimezone(zone).utcoffset():
            continue
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            changed = low.astimezone(zone).utcoffset() != middle.astimezone(zone).utcoffset()
            low, high = (low, middle) if changed else (middle, high)
        return high.replace(microsecond=0)
    return time


@st.composite
def near_a_change(draw: st.DrawFn) -> tuple[Budget, datetime]:
    """A budget, and a moment within two days of a change of its clock or of its reset."""
    of = draw(budgets())
    time = draw(moments)
    to_the_reset = of.reset_at is not None and draw(st.booleans())
    time = of.reset_at if of.reset_at and to_the_reset else _change_after(of.zone, time)
    by = st.timedeltas(timedelta(days=-2), timedelta(days=2)) | st.timedeltas(-2 * HOUR, 2 * HOUR)
    return of, time + draw(by)


def _tiles(of: Budget, time: datetime) -> None:
    this = window_of(of, time)
    if of.starts_at is not None and time < of.starts_at:
        assert this is None
        return
    assert this is not None
    assert this.holds(time)
    assert this.start.tzinfo is UTC
    assert window_of(of, this.start) == this
    # No time on the wire is before 1970, so nothing need tile there.
    if this.start > max(EPOCH, of.starts_at or EPOCH):
        before = window_of(of, this.start - MICROSECOND)
        assert before is not None
        assert before.end == this.start
    if this.end is not None:
        assert window_of(of, this.end - MICROSECOND) == this
        after = window_of(of, this.end)
        assert after is not None
        assert after.start == this.end


@settings(deadline=None, max_examples=300)
@given(budgets(), moments)
def test_every_moment_is_in_exactly_one_window_and_the_next_begins_where_it_ends(
    of: Budget, time: datetime
) -> None:
    _tiles(of, time)


@settings(deadline=None, max_examples=600)
@given(near_a_change())
@example((budget(timezone="Pacific/Apia"), datetime(2011, 12, 30, 10, tzinfo=UTC)))
@example((budget(timezone="Pacific/Kwajalein"), datetime(1993, 8, 21, 12, tzinfo=UTC)))
def test_windows_tile_time_where_the_clock_jumps_or_a_reset_splits_them(
    where: tuple[Budget, datetime],
) -> None:
    _tiles(*where)


def test_windows_tile_time_across_the_changes_of_every_zone_there_is() -> None:
    """Exhaustive where the laws above sample: each zone's next two changes of clock, in and out."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    periods = ("hour", "day", "week:sunday", "month:31", "year", "P1D")
    for zone in sorted(available_timezones() - {"localtime"}):
        change = begin
        for _ in range(2):
            change = _change_after(ZoneInfo(zone), change + HOUR)
            for period in periods:
                of = budget(period=period, timezone=zone, starts_at=begin - timedelta(days=400))
                for by in (-HOUR, -MICROSECOND, timedelta(0), HOUR / 2):
                    _tiles(of, change + by)


@settings(deadline=None, max_examples=200)
@given(zones, moments, st.integers(0, 6))
def test_a_week_begins_at_its_first_days_midnight_and_has_seven_days(
    zone: str, time: datetime, first_day: int
) -> None:
    of = budget(period=f"week:{WEEKDAYS[first_day]}", timezone=zone)
    days = _local_days(of, time)
    # Where the date line moved, a week lost or gained a day: there its first day is another one.
    assume(len(days) == 7)

    assert days[0].weekday() == first_day


@settings(deadline=None, max_examples=200)
@given(zones, moments, st.integers(1, 31))
def test_a_month_begins_on_its_day_or_where_it_has_none_on_its_last(
    zone: str, time: datetime, day: int
) -> None:
    days = _local_days(budget(period=f"month:{day}", timezone=zone), time)

    assume(not _skips_a_day(zone, days))
    first, after = days[0], days[-1] + timedelta(days=1)
    for begin in (first, after):
        assert begin.day == day or (begin.day < day and (begin + timedelta(days=1)).day == 1)
    assert 28 <= len(days) <= 31


def _local_days(of: Budget, time: datetime) -> list[date]:
    """The dates of the window, by the budget's clock."""
    window = window_of(of, time)
    assert window is not None
    assert window.end is not None
    first = window.start.astimezone(of.zone).date()
    last = (window.end - MICROSECOND).astimezone(of.zone).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _skips_a_day(zone: str, days: list[date]) -> bool:
    return zone in ("Pacific/Apia", "Pacific/Kwajalein", "Kwajalein", "Pacific/Fakaofo") and any(
        day in days or day + timedelta(days=1) in days
        for day in (date(2011, 12, 30), date(1993, 8, 21), date(1994, 12, 31))
    )


@settings(deadline=None, max_examples=300)
@given(budgets(), moments, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_of_two_moments_the_later_is_in_no_earlier_window(of: Budget, time: datetime, by: timedelta) -> None:
    earlier, later = window_of(of, time), window_of(of, time + by)
    assume(earlier is not None and later is not None)
    assert earlier is not None
    assert later is not None

    assert earlier.start <= later.start
    assert (earlier == later) == later.holds(time)


@settings(deadline=None, max_examples=200)
@given(st.lists(budgets(), min_size=1, max_size=4), st.lists(moments, min_size=1, max_size=8))
def test_a_book_remembers_windows_and_never_a_wrong_one(offered: list[Budget], times: list[datetime]) -> None:
    """Each budget follows the one before under the same id, so what is remembered must be forgotten."""
    book = BudgetBook()
    for of in offered:
        book.put(of)
        for time in times:
            assert book.window_of(of, time) == window_of(of, time)
            assert book.window_of(offered[0], time) == window_of(offered[0], time)


_near = st.integers(0, 60).map(lambda hours: datetime(2026, 3, 28, tzinfo=UTC) + hours * HOUR)


@given(
    st.lists(st.tuples(st.sampled_from(["day", "month", "P2D"]), st.none() | _near), min_size=2, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["UTC", "Europe/Berlin"]), _near),
        min_size=5,
        max_size=20,
    ),
)
def test_a_remembered_rule_says_what_the_budget_says(
    rules: list[tuple[str, datetime | None]], asked: list[tuple[int, str, datetime]]
) -> None:
    remembered = WindowCache()
    for which, zone, time in asked:
        period, reset_at = rules[which % len(rules)]
        starts_at = FIRST.replace(tzinfo=UTC) if period.startswith("P") else None
        one = budget(period=period, timezone=zone, reset_at=reset_at, starts_at=starts_at)
        assert remembered.window_of(one, time) == window_of(one, time)
