"""`spendmeter top` on the real engine."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter, spendmeter_json

Spend = Callable[..., None]
COLUMNS = [
    "event_id",
    "kind",
    "occurred_at",
    "key",
    "key_alias",
    "team",
    "tags",
    "cost_usd",
    "cost_source",
    "status",
]


@pytest.fixture
def spend(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spend]:
    """Put one event into a history that the commands find."""
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    server = connection.client(settings, database=None)
    migrate(server, database)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)

    def put(
        key: str,
        usd: str,
        *,
        alias: str | None = None,
        team: str | None = None,
        tags: tuple[str, ...] = (),
        ago: timedelta = timedelta(seconds=1),
        source: str = "litellm",
        status: str = "success",
    ) -> None:
        row = [uuid4(), "usage", datetime.now(UTC) - ago, key, alias, team, list(tags), usd, source, status]
        server.insert("usage", [row], column_names=COLUMNS, database=database)

    yield put
    server.close()


def top(*options: str) -> list[tuple[str, str, int]]:
    return [(one["name"], one["spent_usd"], one["requests"]) for one in spendmeter_json("top", *options)]


def test_the_biggest_spender_comes_first_to_the_nano_dollar(spend: Spend) -> None:
    spend("a", "0.000000001")
    spend("b", "0.1")
    spend("a", "0.1")

    assert top() == [("a", "0.100000001", 2), ("b", "0.100000000", 1)]


def test_only_the_window_counts(spend: Spend) -> None:
    spend("a", "1", ago=timedelta(minutes=61))
    spend("a", "2", ago=timedelta(minutes=59))

    assert top("--window", "hour") == [("a", "2.000000000", 1)]
    assert top("--window", "day") == [("a", "3.000000000", 2)]


def test_a_tag_counts_for_each_event_that_carries_it(spend: Spend) -> None:
    spend("a", "1", tags=("x", "y"))
    spend("a", "2", tags=("y",))

    assert top("--by", "tag") == [("y", "3.000000000", 2), ("x", "1.000000000", 1)]


def test_what_has_no_team_is_shown_as_none(spend: Spend) -> None:
    spend("a", "1", team="research")
    spend("b", "2")

    shown = spendmeter("top", "--once", "--by", "team").splitlines()

    assert shown[2].startswith("(none)")
    assert shown[3].startswith("research")
    assert "together $3.000000000" in shown[0]


def test_unpriced_requests_are_told_apart_from_free_ones(spend: Spend) -> None:
    spend("a", "0", source="unpriced")
    spend("a", "0", source="cache")

    (row,) = spendmeter_json("top")

    assert (row["requests"], row["unpriced"]) == (2, 1)
    assert "unpriced" in spendmeter("top", "--once")


def test_a_failed_request_counts_only_for_what_it_cost(spend: Spend) -> None:
    spend("a", "0", status="failure")

    assert top() == []
    assert "no request has finished" in spendmeter("top", "--once")

    spend("a", "0.1", status="failure")

    assert top() == [("a", "0.100000000", 1)]
