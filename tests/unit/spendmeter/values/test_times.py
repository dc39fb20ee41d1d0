"""Times on the wire: one form, UTC, that sorts as text."""

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from spendmeter.values.times import (
    EPOCH,
    UtcTime,
    format_time,
    from_unix_us,
    parse_time,
    to_unix_us,
)

BERLIN = ZoneInfo("Europe/Berlin")
on_the_wire: TypeAdapter[datetime] = TypeAdapter(UtcTime)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 11, 22, 10, 0, tzinfo=UTC), "2026-11-22T10:00:00.000000Z"),
        (datetime(2026, 11, 22, 10, 0, 0, 1, tzinfo=UTC), "2026-11-22T10:00:00.000001Z"),
        (datetime(2026, 11, 22, 11, 0, tzinfo=BERLIN), "2026-11-22T10:00:00.000000Z"),
        (
            datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            "2025-12-31T18:45:00.000000Z",
        ),
        (EPOCH, "1970-01-01T00:00:00.000000Z"),
        (datetime(999, 1, 1, tzinfo=UTC), "0999-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_is_written_in_utc_with_six_decimals(time: datetime, text: str) -> None:
    assert format_time(time) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00.000000Z",
        "2026-11-22T10:00:00+00:00",
        "2026-11-22T15:45:00+05:45",
        "2026-11-21T22:00:00-12:00",
        "2026-11-22 10:00:00Z",
        "2026-11-22T10:00:00.000000999Z",
    ],
)
def test_any_rfc_3339_form_of_a_moment_is_the_same_moment(text: str) -> None:
    assert parse_time(text) == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-11-22T10:00:00", "has no UTC offset; write it as 2026-11-22T10:00:00Z"),
        ("2026-11-22", "has no UTC offset; write it as 2026-11-22T10:00:00Z"),
        ("tomorrow", "'tomorrow' is not a time; write it as 2026-11-22T10:00:00Z"),
        ("2026-02-30T10:00:00Z", "is not a time; write it as 2026-11-22T10:00:00Z"),
        ("0001-01-01T00:00:00+14:00", "lies outside the years 1970 to 9999 UTC"),
        ("9999-12-31T23:59:59-14:00", "lies outside the years 1970 to 9999 UTC"),
        ("1969-12-31T23:59:59.999999Z", "lies before 1970, where no window begins"),
    ],
)
def test_what_is_no_time_on_the_wire_is_a_value_error_that_names_the_fix(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_time(text)


def test_the_first_moment_of_1970_is_a_time() -> None:
    assert parse_time("1970-01-01T00:00:00Z") == EPOCH


@pytest.mark.parametrize("number", [0, 1_700_000_000, 1_700_000_000.5, True])
def test_a_number_is_no_time_because_its_unit_would_be_a_guess(number: float) -> None:
    with pytest.raises(ValidationError, match="a time is text; write it as"):
        on_the_wire.validate_python(number)


def test_a_datetime_of_another_zone_becomes_utc_so_that_it_compares_by_moment() -> None:
    before = on_the_wire.validate_python(datetime(2026, 10, 25, 2, 59, tzinfo=BERLIN))
    after = on_the_wire.validate_python(datetime(2026, 10, 25, 2, 1, tzinfo=BERLIN, fold=1))

    assert (before.tzinfo, after.tzinfo) == (UTC, UTC)
    assert after - before == timedelta(minutes=2)


def test_a_datetime_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone info"):
        on_the_wire.validate_python(datetime(2026, 11, 22))  # noqa: DTZ001


def test_microseconds_since_1970_are_exact_at_the_far_end() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    assert from_unix_us(to_unix_us(last)) == last
    assert to_unix_us(last) == 253_402_300_799_999_999
