"""Windows at their edges: calendars, clocks that jump, durations, beginnings and resets."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from spendmeter.domain.window import Window, window_of
from spendmeter.values.times import EPOCH, NO_WINDOWS_FROM, parse_time
from tests.builders import NOON, budget

MICROSECOND = timedelta(microseconds=1)


def window(time: str, **fields: Any) -> tuple[str, str]:
    """The window of a budget at a time, both ends as text without seconds."""
    found = window_of(budget(**fields), parse_time(time))
    assert found is not None
    return _short(found.start), _short(found.end)


def _short(time: datetime | None) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ") if time else "never"


@pytest.mark.parametrize(
    ("period", "zone", "start", "end"),
    [
        ("hour", "UTC", "2026-11-22T12:00:00Z", "2026-11-22T13:00:00Z"),
        ("hour", "Asia/Kathmandu", "2026-11-22T12:15:00Z", "2026-11-22T13:15:00Z"),
        ("day", "UTC", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("day", "Pacific/Kiritimati", "2026-11-22T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("week", "UTC", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("month", "UTC", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("month", "Europe/Berlin", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        ("month", "UTC", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("year", "America/New_York", "2026-01-01T05:00:00Z", "2027-01-01T05:00:00Z"),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(period: str, zone: str, start: str, end: str) -> None:
    of = budget(period=period, timezone=zone)
    this = Window(parse_time(start), parse_time(end))
    assert this.end is not None

    before, after = window_of(of, this.start - MICROSECOND), window_of(of, this.end)

    assert window_of(of, this.start) == this
    assert window_of(of, this.end - MICROSECOND) == this
    assert before is not None
    assert after is not None
    assert (before.end, after.start) == (this.start, this.end)


@pytest.mark.parametrize(
    ("time", "start", "end"),
    [
        ("2026-03-29T12:00:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("2026-10-25T12:00:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
    ],
)
def test_the_day_of_a_clock_change_has_23_or_25_hours(time: str, start: str, end: str) -> None:
    assert window(time, timezone="Europe/Berlin") == (start, end)


@pytest.mark.parametrize(
    ("zone", "time", "start", "end"),
    [
        # The clock jumps over midnight: the day begins at 01:00, the moment of the jump.
        ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00Z", "2026-04-24T21:00Z"),
        # Midnight comes twice: the day begins at the first.
        ("America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
        # The clock runs back over midnight, from 00:01 to 23:01: the evening belongs to the new day.
        ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30Z", "2010-11-08T03:30Z"),
        # Samoa skipped 30 December 2011 whole.
        ("Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
    ],
)
def test_a_day_whose_midnight_is_skipped_or_repeated(zone: str, time: str, start: str, end: str) -> None:
    assert window(time, timezone=zone) == (start, end)


@pytest.mark.parametrize(
    ("zone", "time", "start", "end"),
    [
        # 02:00 to 03:00 comes twice: two windows of an hour each.
        ("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T00:00Z", "2026-10-25T01:00Z"),
        ("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"),
        # 02:00 to 03:00 does not come at all.
        ("Europe/Berlin", "2026-03-29T00:59:59Z", "2026-03-29T00:00Z", "2026-03-29T01:00Z"),
        ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-29T01:00Z", "2026-03-29T02:00Z"),
        # Lord Howe Island moves by half an hour, at 15:30 UTC in spring: half an hour is skipped …
        ("Australia/Lord_Howe", "2026-10-03T15:29:59Z", "2026-10-03T14:30Z", "2026-10-03T15:30Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-10-03T15:30Z", "2026-10-03T16:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T16:00:00Z", "2026-10-03T16:00Z", "2026-10-03T17:00Z"),
        # … and repeated in autumn, at 15:00 UTC.
        ("Australia/Lord_Howe", "2026-04-04T14:59:59Z", "2026-04-04T14:00Z", "2026-04-04T15:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-04-04T15:00Z", "2026-04-04T15:30Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:30:00Z", "2026-04-04T15:30Z", "2026-04-04T16:30Z"),
    ],
)
def test_hours_follow_the_local_clock_when_it_jumps(zone: str, time: str, start: str, end: str) -> None:
    assert window(time, period="hour", timezone=zone) == (start, end)


@pytest.mark.parametrize(
    ("zone", "change", "before", "after"),
    [
        # From UTC-4 to UTC-4:30 at 03:00: 02:30 to 03:00 came twice, the second time alone.
        ("America/Caracas", "2007-12-09T07:00:00Z", 60, 30),
        # And back at 02:30, which became 03:00: the hour of two had thirty minutes.
        ("America/Caracas", "2016-05-01T07:00:00Z", 30, 60),
        # From UTC+8:30 to UTC+9 at 23:30, which became midnight.
        ("Asia/Pyongyang", "2018-05-04T15:00:00Z", 30, 60),
    ],
)
def test_an_hour_that_a_change_cuts_is_cut_to_the_second(
    zone: str, change: str, before: int, after: int
) -> None:
    of, at = budget(period="hour", timezone=zone), parse_time(change)

    assert window_of(of, at - MICROSECOND) == Window(at - timedelta(minutes=before), at)
    assert window_of(of, at) == Window(at, at + timedelta(minutes=after))


def test_a_duration_of_hours_is_exact_across_a_clock_change() -> None:
    fields = {"period": "PT6H", "timezone": "Europe/Berlin", "starts_at": "2026-03-28T23:00:00Z"}

    assert window("2026-03-29T05:00:00Z", **fields) == ("2026-03-29T05:00Z", "2026-03-29T11:00Z")


def test_a_duration_of_days_follows_the_local_clock_across_a_change() -> None:
    fields = {"period": "P2D", "timezone": "Europe/Berlin", "starts_at": "2026-03-27T23:00:00Z"}

    assert window("2026-03-29T12:00:00Z", **fields) == ("2026-03-27T23:00Z", "2026-03-29T22:00Z")
    assert window("2026-03-29T22:00:00Z", **fields) == ("2026-03-29T22:00Z", "2026-03-31T22:00Z")


def test_a_days_boundary_that_the_clock_skips_is_as_long_after_the_jump() -> None:
    """02:30 is skipped on 29 March: the boundary is at 03:30, and 03:15 is before it."""
    fields = {"period": "P1D", "timezone": "Europe/Berlin", "starts_at": "2026-03-28T01:30:00Z"}

    assert window("2026-03-29T01:15:00Z", **fields) == ("2026-03-28T01:30Z", "2026-03-29T01:30Z")
    assert window("2026-03-29T01:30:00Z", **fields) == ("2026-03-29T01:30Z", "2026-03-30T00:30Z")


def test_a_duration_begins_in_the_second_of_two_like_hours_if_told_so() -> None:
    begins = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1).astimezone(UTC)
    of = budget(period="P1D", timezone="Europe/Berlin", starts_at=begins)

    assert window_of(of, begins - MICROSECOND) is None
    assert window_of(of, begins) == Window(begins, datetime(2026, 10, 26, 1, 30, tzinfo=UTC))


@pytest.mark.parametrize("period", ["hour", "day", "week", "month", "year", "lifetime", "P1W", "PT1H"])
def test_nothing_is_counted_before_a_budget_begins(period: str) -> None:
    begins = NOON + timedelta(minutes=7, microseconds=3)
    of = budget(period=period, starts_at=begins)
    first = window_of(of, begins)

    assert window_of(of, begins - MICROSECOND) is None
    assert first is not None
    assert first.start == begins


def test_a_beginning_in_the_past_shortens_no_later_window() -> None:
    assert window("2026-11-22T12:00:00Z", starts_at="2026-11-21T12:00:00Z") == (
        "2026-11-22T00:00Z",
        "2026-11-23T00:00Z",
    )


def test_a_lifetime_has_no_end_and_begins_in_1970_or_when_told() -> None:
    assert window_of(budget(period="lifetime"), NOON) == Window(EPOCH, None)
    assert window_of(budget(period="lifetime", starts_at=NOON), NOON) == Window(NOON, None)
    assert window_of(budget(period="lifetime"), EPOCH) == Window(EPOCH, None)


@pytest.mark.parametrize("period", ["day", "lifetime", "PT24H", "PT7H"])
def test_a_reset_ends_one_window_and_begins_the_next(period: str) -> None:
    begins = NOON - timedelta(days=3)
    of = budget(period=period, starts_at=begins, reset_at=NOON + MICROSECOND)
    without = window_of(budget(period=period, starts_at=begins), NOON)
    assert without is not None

    assert window_of(of, NOON) == Window(without.start, NOON + MICROSECOND)
    assert window_of(of, NOON + MICROSECOND) == Window(NOON + MICROSECOND, without.end)


@pytest.mark.parametrize("reset", ["2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"])
def test_a_reset_on_a_boundary_makes_no_empty_window(reset: str) -> None:
    assert window("2026-11-22T12:00:00Z", reset_at=reset) == ("2026-11-22T00:00Z", "2026-11-23T00:00Z")


def test_a_reset_before_the_beginning_changes_nothing() -> None:
    fields = {"starts_at": "2026-11-22T10:00:00Z", "reset_at": "2026-11-22T09:00:00Z"}

    assert window("2026-11-22T12:00:00Z", **fields) == ("2026-11-22T10:00Z", "2026-11-23T00:00Z")


def test_a_moment_has_one_window_whatever_zone_it_is_given_in() -> None:
    of = budget(period="hour", timezone="Europe/Berlin")
    second_two_thirty = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)

    assert window_of(of, second_two_thirty) == window_of(of, second_two_thirty.astimezone(UTC))


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "Africa/Monrovia"])
@pytest.mark.parametrize(
    "period", ["hour", "day", "week", "month", "year", "lifetime", "P9999W", "PT9999999S"]
)
def test_the_first_moment_on_the_wire_has_a_window(period: str, zone: str) -> None:
    of = budget(period=period, timezone=zone, starts_at=EPOCH)

    assert window_of(of, EPOCH) == window_of(of, EPOCH + MICROSECOND)


@pytest.mark.parametrize(
    ("period", "time", "start", "end"),
    [
        # 22 November 2026 is a Sunday.
        ("week", "2026-11-22T12:00:00Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        ("week:sunday", "2026-11-22T00:00:00Z", "2026-11-22T00:00Z", "2026-11-29T00:00Z"),
        ("week:sunday", "2026-11-21T23:59:59Z", "2026-11-15T00:00Z", "2026-11-22T00:00Z"),
        ("month:15", "2026-11-14T23:59:59Z", "2026-10-15T00:00Z", "2026-11-15T00:00Z"),
        ("month:15", "2026-11-15T00:00:00Z", "2026-11-15T00:00Z", "2026-12-15T00:00Z"),
        # A month without the day begins on its last, and the next one on the day again.
        ("month:31", "2026-02-27T23:59:59Z", "2026-01-31T00:00Z", "2026-02-28T00:00Z"),
        ("month:31", "2026-02-28T00:00:00Z", "2026-02-28T00:00Z", "2026-03-31T00:00Z"),
        ("month:29", "2028-02-29T00:00:00Z", "2028-02-29T00:00Z", "2028-03-29T00:00Z"),
        ("month:30", "2026-12-31T12:00:00Z", "2026-12-30T00:00Z", "2027-01-30T00:00Z"),
    ],
)
def test_weeks_and_months_begin_on_the_day_they_are_told(
    period: str, time: str, start: str, end: str
) -> None:
    assert window(time, period=period) == (start, end)


@pytest.mark.parametrize(
    "period", ["hour", "day", "week:sunday", "month:31", "year", "lifetime", "P9999W", "PT1S"]
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_windows_end_before_what_a_datetime_holds(period: str, zone: str) -> None:
    one = budget(period=period, timezone=zone, starts_at=EPOCH)
    assert window_of(one, NO_WINDOWS_FROM - MICROSECOND) is not None
    assert window_of(one, EPOCH) is not None
    for beyond in (NO_WINDOWS_FROM, datetime.max.replace(tzinfo=UTC)):
        assert window_of(one, beyond) is None


def test_a_budget_begins_and_is_reset_where_there_are_windows() -> None:
    for field in ("starts_at", "reset_at"):
        assert budget(**{field: NO_WINDOWS_FROM - timedelta(microseconds=1)})
        with pytest.raises(ValidationError, match="9000 is too far ahead: windows end with the year 8999"):
            budget(**{field: NO_WINDOWS_FROM})
