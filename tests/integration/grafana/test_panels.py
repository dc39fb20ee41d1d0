"""Every number on every dashboard, on the real engine, is what the records add up to, to the nano-dollar."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from spendmeter_sinks.roll_ups.roller import read_stale
from tests.integration.grafana.conftest import StoredHistory
from tests.integration.grafana.content import FIRST, HOSTILE, LAST, LATE, RENAMED
from tests.integration.grafana.expected import EXPECTED, Asked, Row, filters_of
from tests.integration.grafana.plugin import PanelSql, PanelView, expand, panels
from tests.spend_oracle import sums

QUERIES = list(panels())
VIEWS = {
    "all of it, days of Berlin": PanelView(FIRST, LAST, 12 * 3_600, "Europe/Berlin"),
    "some, in the middle of hours, days of Los Angeles": PanelView(
        datetime(2026, 10, 25, 14, 23, 7, 500_000, tzinfo=UTC),
        datetime(2026, 11, 1, 9, 41, 30, tzinfo=UTC),
        3_600,
        "America/Los_Angeles",
        {
            "team": ["t-search", "t-ads-2", HOSTILE, "(none)"],
            "model": ["gpt-4o"],
            "budget": ["per-team", "nothing", "(none)"],
        },
    ),
    "one key, half an hour": PanelView(
        RENAMED + timedelta(hours=3, minutes=20),
        RENAMED + timedelta(hours=3, minutes=50),
        60,
        "UTC",
        {"key": ["00" + "ab" * 31, "01" + "ab" * 31, "02" + "ab" * 31], "budget": ["company"]},
    ),
}
BEFORE_ANYTHING = PanelView(FIRST - timedelta(days=40), FIRST - timedelta(days=39), 3_600)
MONTH_END = "to the end of a month in Berlin"
OF_KEYS = "keys from the middle of a day on"
CUT_AT_ITS_END = "to the middle of a day"
EDGES = {
    OF_KEYS: PanelView(
        FIRST + timedelta(hours=11, minutes=5),
        LAST - timedelta(hours=3),
        24 * 3_600,
        "America/Los_Angeles",
        {"key": ["00" + "ab" * 31, "03" + "ab" * 31, "05" + "ab" * 31]},
    ),
    CUT_AT_ITS_END: PanelView(FIRST, LAST - timedelta(hours=7), 24 * 3_600, "Asia/Tokyo"),
    MONTH_END: PanelView(FIRST, datetime(2026, 10, 31, 23, tzinfo=UTC), 24 * 3_600, "Europe/Berlin"),
}


def answer(client: Client, sql: str, view: PanelView) -> list[Row]:
    return [tuple(map(_plain, row)) for row in client.query(expand(sql, view)).result_rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def differences(stored: StoredHistory, query: PanelSql, views: Sequence[str] = tuple(VIEWS)) -> list[str]:
    """How what the panel shows differs from what it must."""
    found = []
    for name in views:
        shown = answer(stored.client, query.sql, (VIEWS | EDGES)[name])
        must = must_show(stored, query, name)
        if shown != must:
            odd = [(s, m) for s, m in zip(shown, must, strict=False) if s != m][:3]
            found.append(
                f"{query.dashboard} / {query.title}, {name}: {len(shown)} rows for {len(must)}; {odd}"
            )
    return found


def must_show(stored: StoredHistory, query: PanelSql, view: str) -> list[Row]:
    asked = stored.asked(view, (VIEWS | EDGES)[view], filters_of(query.dashboard, query.title))
    return EXPECTED[query.dashboard][query.title](asked)


@pytest.mark.parametrize("dashboard", EXPECTED)
def test_each_number_is_what_the_records_add_up_to(stored: StoredHistory, dashboard: str) -> None:
    wrong = [
        difference
        for query in QUERIES
        if query.dashboard == dashboard
        for difference in differences(stored, query)
    ]

    assert not wrong, "\n".join(wrong)


def test_each_query_has_an_expectation_and_each_view_shows_something() -> None:
    assert {(q.dashboard, q.title) for q in QUERIES} == {(d, t) for d, of in EXPECTED.items() for t in of}
    assert len(QUERIES) == sum(map(len, EXPECTED.values())), "titles are unique on a dashboard"


def test_the_content_is_what_it_should_be(stored: StoredHistory) -> None:
    content = stored.content
    [(rows, corrections)] = stored.client.query(
        "SELECT count(), uniqExactIf(event_id, kind != 'usage') FROM usage"
    ).result_rows
    spans = {span.start for span in read_stale(stored.client)}

    assert corrections == len(content.corrections) + len(content.late_corrections) >= 980
    assert len(content.replayed) > 100
    assert rows == len(stored.oracle.entries) + len(content.copies) + len(content.replayed)
    assert FIRST.replace(tzinfo=None) not in spans, "the first day is read from its sums"
    assert LATE.replace(tzinfo=None) in spans, "that day was corrected after it had been summed up"
    for query in QUERIES:
        assert must_show(stored, query, next(iter(VIEWS))), query.title


def test_a_range_that_ends_with_a_month_is_of_that_month(stored: StoredHistory) -> None:
    for query in QUERIES:
        if query.title in ("This month", "Last month", "Spent by day"):
            assert not differences(stored, query, [MONTH_END])


@pytest.mark.parametrize("view", [OF_KEYS, CUT_AT_ITS_END])
def test_days_hours_and_events_make_up_a_range(stored: StoredHistory, view: str) -> None:
    wrong = [
        difference
        for query in QUERIES
        if query.dashboard == "spendmeter-team-key"
        for difference in differences(stored, query, [view])
    ]

    assert not wrong, "\n".join(wrong)


def test_a_range_without_anything_divides_nothing_by_nothing(stored: StoredHistory) -> None:
    for query in QUERIES:
        if query.title in ("Spent", "Teams", "Models", "Burn rate", "Latest alerts"):
            asked = Asked(stored.oracle, stored.content, BEFORE_ANYTHING, ())
            must = EXPECTED[query.dashboard][query.title](asked)
            assert answer(stored.client, query.sql, BEFORE_ANYTHING) == must, query.title


def test_a_number_reaches_grafana_whole(stored: StoredHistory) -> None:
    """The data source makes doubles of decimals: exact to the nano-dollar up to nine million dollars."""
    spent = sums(stored.oracle.entries).spent_nanousd
    assert 10**9 < spent < 9 * 10**15
    assert round(Decimal(float(Decimal(spent).scaleb(-9))), 9) == Decimal(spent).scaleb(-9)


def test_a_zone_whose_days_begin_within_an_hour_is_refused(stored: StoredHistory) -> None:
    [days] = [q for q in QUERIES if (q.dashboard, q.title) == ("spendmeter-overview", "Spent by day")]
    with pytest.raises(DatabaseError, match="choose another zone"):
        answer(stored.client, days.sql, PanelView(FIRST, LAST, 3_600, "Asia/Kolkata"))
