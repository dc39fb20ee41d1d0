"""Which days and hours may be read as sums: those without an edge inside."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from spendmeter_console.history.spans import TimeSpan
from spendmeter_console.history.sums import Condition, cut, source_of_sums

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
TIMES = st.one_of(
    st.integers(0, 20).map(lambda n: MIDNIGHT + n * DAY),
    st.integers(0, 480).map(lambda n: MIDNIGHT + n * HOUR),
    st.integers(0, 20 * 86_400_000_000).map(lambda n: MIDNIGHT + timedelta(microseconds=n)),
)


def _tables(span: TimeSpan) -> list[str]:
    sql, _ = source_of_sums(span, (), ["team"], [])
    known = {
        "days": "usage_teams_by_day",
        "hours": "usage_teams_by_hour",
        "rows": "usage FINAL",
    }
    return [name for name, table in known.items() if f"FROM {table} " in sql]


@given(TIMES, TIMES, st.lists(TIMES, max_size=4))
def test_no_day_and_no_hour_that_is_not_cut_holds_an_edge(
    one: datetime, other: datetime, edges: Sequence[datetime]
) -> None:
    span = TimeSpan(*sorted((one, other)))
    days, hours = cut(span, edges)
    inside = [span.start, span.end, *(edge for edge in edges if span.start < edge < span.end)]

    for beginnings, length in ((days, DAY), (hours, HOUR)):
        held = [begin for begin in beginnings if any(begin < edge < begin + length for edge in inside)]
        assert held == beginnings
        assert all(
            (edge - MIDNIGHT) % length == timedelta(0)
            or any(begin < edge < begin + length for begin in beginnings)
            for edge in inside
        )
    assert {hour.replace(hour=0) for hour in hours} <= set(days)


def test_nothing_is_read_that_the_span_does_not_need() -> None:
    assert _tables(TimeSpan(MIDNIGHT, MIDNIGHT + DAY)) == ["days"]
    assert _tables(TimeSpan(MIDNIGHT - HOUR, MIDNIGHT + DAY)) == ["days", "hours"]
    assert _tables(TimeSpan(MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR)) == ["hours"]
    minutes = timedelta(minutes=50)
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + HOUR)) == ["rows"]
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + HOUR + minutes)) == ["rows"]
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + 3 * HOUR)) == ["hours", "rows"]
    assert _tables(TimeSpan(MIDNIGHT - minutes, MIDNIGHT + DAY)) == ["days", "rows"]


def test_what_a_sum_does_not_know_is_read_from_the_rows() -> None:
    days = TimeSpan(MIDNIGHT, MIDNIGHT + DAY)
    of_tag = Condition("tag", "has(tags, 'prod')", "tag = 'prod'")

    for sql, _ in (
        source_of_sums(days, (), ["tag"], []),
        source_of_sums(days, (), ["team", "session"], []),
        source_of_sums(days, (), ["team"], [of_tag]),
    ):
        assert "FROM usage FINAL" in sql
        assert "_by_" not in sql


def test_keys_are_read_only_where_they_matter() -> None:
    days = TimeSpan(MIDNIGHT, MIDNIGHT + DAY)
    of_user = Condition("user", "user = 'ann'", "user = 'ann'")

    assert "usage_teams_by_day" in source_of_sums(days, (), ["team", "model"], [])[0]
    assert "usage_by_day" in source_of_sums(days, (), ["team", "key"], [])[0]
    assert "usage_by_day" in source_of_sums(days, (), ["team"], [of_user])[0]
