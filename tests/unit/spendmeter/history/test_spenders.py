"""The span of a question is read in pieces that tile it, from sums wherever these reach."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.history.spenders import SpendSpan, pieces

DAY = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
moments = st.datetimes(DAY.replace(tzinfo=None), (DAY + 90 * HOUR).replace(tzinfo=None)).map(
    lambda time: time.replace(tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("within", "tables"),
    [
        (SpendSpan(DAY, DAY + 24 * HOUR), ["by_day"]),
        (SpendSpan(DAY), ["by_day"]),
        (SpendSpan(DAY, DAY + 23 * HOUR), ["by_hour"]),
        (SpendSpan(DAY + HOUR / 2), ["usage", "by_hour"]),
        (SpendSpan(DAY + HOUR / 2, DAY + HOUR), ["usage"]),
        (SpendSpan(DAY + HOUR / 2, DAY + 2 * HOUR), ["usage", "by_hour"]),
        (SpendSpan(DAY, DAY + HOUR * 3 / 2), ["by_hour", "usage"]),
        (SpendSpan(DAY + HOUR / 2, DAY + HOUR * 5 / 2), ["usage", "by_hour", "usage"]),
    ],
)
def test_whole_hours_and_days_come_from_the_sums(within: SpendSpan, tables: list[str]) -> None:
    assert [table for table, _ in pieces(within)] == tables


@given(moments, moments | st.none())
def test_the_pieces_tile_the_span(start: datetime, end: datetime | None) -> None:
    if end is not None and end <= start:
        start, end = end, start + timedelta(microseconds=1)

    found = pieces(SpendSpan(start, end))

    assert found[0][1].start == start
    assert found[-1][1].end == end
    for (_, before), (_, after) in pairwise(found):
        assert before.end == after.start
    for table, piece in found:
        unit = {"by_day": 24 * HOUR, "by_hour": HOUR}.get(table)
        if unit is not None:
            assert all(time is None or not (time - DAY) % unit for time in piece)
