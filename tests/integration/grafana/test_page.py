"""The page's own numbers, held by the oracle that holds the dashboards."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import TimeSpan
from spendmeter_console.history.queries import HistoryQueries
from spendmeter_console.history.spans import Interval
from spendmeter_console.viewer import ViewScope
from tests.integration.grafana.conftest import StoredHistory
from tests.integration.grafana.content import FIRST, HOSTILE, LAST, RENAMED
from tests.spend_oracle import SpendEntry, day_of, hour_of, month_of, sums, sums_by

BERLIN = ZoneInfo("Europe/Berlin")
SPANS = {
    "all of it": TimeSpan(FIRST, LAST),
    "to the microsecond": TimeSpan(
        datetime(2026, 10, 26, 14, 23, 7, 500_001, tzinfo=UTC),
        datetime(2026, 11, 1, 9, 41, 30, 7, tzinfo=UTC),
    ),
    "half an hour": TimeSpan(RENAMED + timedelta(minutes=20), RENAMED + timedelta(minutes=50)),
}
FILTERS: tuple[dict[Dimension, str], ...] = ({}, {"team": HOSTILE}, {"team": "", "model": "gpt-4o"})


@pytest.fixture
def queries(stored: StoredHistory) -> HistoryQueries:
    return HistoryQueries(stored.client, ViewScope())


def entries_of(stored: StoredHistory, span: TimeSpan, filters: Mapping[Dimension, str]) -> list[SpendEntry]:
    return [
        entry
        for entry in stored.oracle.entries
        if span.start <= entry.at < span.end and all(entry.values[of] == v for of, v in filters.items())
    ]


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_totals(stored: StoredHistory, queries: HistoryQueries, span: TimeSpan) -> None:
    for filters in FILTERS:
        entries = entries_of(stored, span, filters)
        must = sums(entries)

        found = queries.totals(span, filters)

        assert found.spent_nanousd == must.spent_nanousd
        assert (found.input_tokens, found.output_tokens) == (must.input_tokens, must.output_tokens)
        assert (found.unpriced, found.corrections) == (must.unpriced, must.corrections)
        assert found.requests == sum(entry.is_request for entry in entries)


@pytest.mark.parametrize("span", SPANS.values(), ids=SPANS)
def test_spend_by_two_dimensions(stored: StoredHistory, queries: HistoryQueries, span: TimeSpan) -> None:
    must = sums_by(entries_of(stored, span, {}), lambda e: (e.values["team"], e.values["key"]))

    found = queries.spend(span, ("team", "key"), {}, limit=1_000)

    assert {row.values: (row.spent_nanousd, row.input_tokens, row.unpriced) for row in found} == {
        at: (one.spent_nanousd, one.input_tokens, one.unpriced) for at, one in must.items()
    }
    assert [row.spent_nanousd for row in found] == sorted((row.spent_nanousd for row in found), reverse=True)


def test_spend_by_tag_counts_a_request_once_for_each_of_its_tags(
    stored: StoredHistory, queries: HistoryQueries
) -> None:
    must: dict[str, int] = defaultdict(int)
    for entry in entries_of(stored, SPANS["all of it"], {}):
        for tag in set(entry.event.tags) or {""}:
            must[tag] += entry.spent_nanousd

    found = queries.spend(SPANS["all of it"], ("tag",), {}, limit=100)

    assert {row.values[0]: row.spent_nanousd for row in found} == must


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        (Interval.HOUR, hour_of),
        (Interval.DAY, lambda time: day_of(time, BERLIN)),
        (Interval.MONTH, lambda time: month_of(time, BERLIN)),
    ],
)
def test_a_series(
    stored: StoredHistory,
    queries: HistoryQueries,
    interval: Interval,
    start: Callable[[datetime], datetime],
) -> None:
    span = SPANS["to the microsecond"]
    must = sums_by(entries_of(stored, span, {}), lambda e: (start(e.at).astimezone(UTC), e.values["model"]))

    found = queries.series(span, interval, BERLIN, "model", ["gpt-4o", "o3", "claude-sonnet"], {})

    assert {(point.at, point.value): point.spent_nanousd for point in found.points} == {
        at: one.spent_nanousd for at, one in must.items()
    }
