"""What a question about spend reads adds up to each of its pieces, and is no more than it needs."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.history.sums import SETTLED_AFTER, DayEdge, held_to, reading_plan, source_of_sums
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
TIMES = st.one_of(
    st.integers(0, 20).map(lambda n: MIDNIGHT + n * DAY),
    st.integers(0, 480).map(lambda n: MIDNIGHT + n * HOUR),
    st.integers(0, 20 * 86_400_000_000).map(lambda n: MIDNIGHT + timedelta(microseconds=n)),
)


def _tables(span: TimeSpan, edges: Sequence[datetime] = ()) -> list[str]:
    sql, _ = source_of_sums(span, edges, ["team"], [])
    known = {
        "days": "usage_teams_by_day",
        "hours": "usage_teams_by_hour",
        "rows": "usage FINAL",
    }
    return [name for name, table in known.items() if f"FROM {table} " in sql]


def _read(span: TimeSpan, edges: Sequence[datetime], row: datetime) -> Iterator[tuple[datetime, int]]:
    """How often a row counts, and where."""
    plan = reading_plan(span, edges)
    day, hour = row.replace(hour=0, minute=0, second=0, microsecond=0), row.replace(minute=0, second=0)
    hour = hour.replace(microsecond=0)
    if day in plan.cut_days:
        yield row if hour in plan.cut_hours else hour, 1
        return
    shared = {one.day: one for one in plan.shared_days}.get(day, DayEdge(day, day, []))
    counts_at, moved = shared.counts_at, shared.moved
    yield counts_at, 1
    if hour in moved:
        yield row if hour in plan.shared_hours else hour, 1
        yield counts_at, -1


@given(TIMES, TIMES, st.lists(TIMES, max_size=6), st.lists(TIMES, min_size=5))
def test_each_row_counts_once_and_in_its_own_piece(
    one: datetime, other: datetime, edges: Sequence[datetime], rows: Sequence[datetime]
) -> None:
    span = TimeSpan(*sorted((one, other)))
    inner = sorted({edge for edge in edges if span.start < edge < span.end})
    bounds = [span.start, *inner, span.end]
    for row in (one for one in rows if span.start <= one < span.end):
        counted = [0] * len(bounds)
        for at, times in _read(span, edges, row):
            counted[sum(bound <= at for bound in bounds)] += times
        expected = [0] * len(bounds)
        expected[sum(bound <= row for bound in bounds)] = 1
        assert counted == expected, row


@given(TIMES, TIMES, st.lists(TIMES, max_size=6))
def test_what_is_cut_holds_an_edge(one: datetime, other: datetime, edges: Sequence[datetime]) -> None:
    span = TimeSpan(*sorted((one, other)))
    plan = reading_plan(span, edges)
    inside = [span.start, span.end, *(edge for edge in edges if span.start < edge < span.end)]

    shared = [one.day for one in plan.shared_days]
    for beginnings, length in (
        (plan.cut_days, DAY),
        (shared, DAY),
        ([*plan.cut_hours, *plan.shared_hours], HOUR),
    ):
        assert [b for b in beginnings if any(b < edge < b + length for edge in inside)] == beginnings
    assert not {*plan.cut_days} & {*shared}
    assert {hour.replace(hour=0) for hour in plan.cut_hours} <= {*plan.cut_days}
    assert {hour.replace(hour=0) for hour in plan.shared_hours} <= {*shared}
    for day in shared:
        assert span.start <= day
        assert day + DAY <= span.end - SETTLED_AFTER


def test_nothing_is_read_that_the_span_does_not_need() -> None:
    assert _tables(TimeSpan(MIDNIGHT, MIDNIGHT + DAY)) == ["days"]
    assert _tables(TimeSpan(MIDNIGHT - HOUR, MIDNIGHT + DAY)) == ["days", "hours"]
    assert _tables(TimeSpan(MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR)) == ["hours"]
    minutes = timedelta(minutes=50)
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + HOUR)) == ["rows"]
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + HOUR + minutes)) == ["rows"]
    assert _tables(TimeSpan(MIDNIGHT + minutes, MIDNIGHT + 3 * HOUR)) == ["hours", "rows"]
    assert _tables(TimeSpan(MIDNIGHT - minutes, MIDNIGHT + DAY)) == ["days", "rows"]


def test_of_a_chart_by_day_a_few_hours_are_read_beside_the_days() -> None:
    """Midnight in New York is 05:00 in UTC, in Kolkata 18:30."""
    for at, hours in ((timedelta(hours=5), 5), (timedelta(hours=18, minutes=30), 6)):
        midnights = [MIDNIGHT + n * DAY + at for n in range(31)]
        plan = reading_plan(TimeSpan(midnights[0], midnights[-1]), midnights)
        assert len(plan.cut_days) == 4, "where it begins, and what is not settled"
        assert {len(one.moved) for one in plan.shared_days} == {hours}
        assert len(plan.shared_days) == 27


def test_what_a_sum_does_not_know_is_read_from_the_rows() -> None:
    days = TimeSpan(MIDNIGHT, MIDNIGHT + DAY)
    asked: list[tuple[Dimension, list[Dimension]]] = [("tag", []), ("session", [])]
    asked += [("team", ["tag"]), ("team", ["key"])]
    for dimension, held in asked:
        conditions = [held_to(one, ["a"])[0] for one in held]
        sql, _ = source_of_sums(days, (), [dimension], conditions)
        assert "FROM usage FINAL" in sql
        assert "_by_" not in sql


def test_keys_are_read_only_where_they_matter() -> None:
    days = TimeSpan(MIDNIGHT, MIDNIGHT + DAY)
    of_user, of_names = held_to("user", ["ann"])[0], held_to("key", ["laptop"], by_name=True)[0]

    assert "usage_teams_by_day" in source_of_sums(days, (), ["team", "model"], [])[0]
    assert "usage_by_day" in source_of_sums(days, (), ["team", "key"], [])[0]
    assert "usage_by_day" in source_of_sums(days, (), ["team"], [of_user])[0]
    assert "usage_by_day" in source_of_sums(days, (), ["team"], [of_names])[0]
