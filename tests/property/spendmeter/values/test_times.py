"""Laws of times: the text loses nothing and sorts as the moments do."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.values.times import EPOCH, format_time, from_unix_us, parse_time, to_unix_us

# Hypothesis wants these without a zone.
FIRST = datetime(1970, 1, 2)  # noqa: DTZ001
LAST = datetime(9999, 12, 30)  # noqa: DTZ001
moments = st.datetimes(FIRST, LAST, timezones=st.timezones())


@given(moments)
def test_a_time_survives_its_text(time: datetime) -> None:
    # Two datetimes of different zones are never equal inside a repeated hour, hence the UTC.
    assert parse_time(format_time(time)) == time.astimezone(UTC)


@given(moments, moments)
def test_times_sort_as_their_texts_do(one: datetime, other: datetime) -> None:
    assert (format_time(one) < format_time(other)) == (one.astimezone(UTC) < other.astimezone(UTC))


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_time_survives_microseconds_since_1970(microseconds: int) -> None:
    time = from_unix_us(microseconds)

    assert to_unix_us(time) == microseconds
    assert time >= EPOCH
