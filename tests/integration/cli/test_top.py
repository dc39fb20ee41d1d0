"""`spendmeter top` on the real engine."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from spendmeter.history.usage import names_of
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
    "team_alias",
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
        team_alias: str | None = None,
        tags: tuple[str, ...] = (),
        ago: timedelta = timedelta(seconds=1),
        source: str = "litellm",
        status: str = "success",
    ) -> None:
        row = [
            uuid4(),
            "usage",
            datetime.now(UTC) - ago,
            key,
            alias,
            team,
            team_alias,
            list(tags),
            usd,
            source,
            status,
        ]
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


def test_a_name_is_shown_for_an_id_and_both_with_wide(spend: Spend) -> None:
    spend("a", "1", team="6f1c2d3e", team_alias="Research", ago=timedelta(minutes=2))
    spend("a", "1", team="6f1c2d3e")
    spend("b", "3", team="9a8b7c6d", team_alias="Ads")

    shown = spendmeter("top", "--once", "--by", "team")
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["Ads", "Research"]
    assert "6f1c2d3e" not in shown
    wide = spendmeter("top", "--once", "--by", "team", "--wide").splitlines()
    assert [line.split()[:2] for line in wide[2:]] == [["Ads", "9a8b7c6d"], ["Research", "6f1c2d3e"]]
    assert [row["alias"] for row in spendmeter_json("top", "--by", "team")] == ["Ads", "Research"]


def test_ids_that_share_a_name_are_told_apart(spend: Spend) -> None:
    spend("a" * 64, "2", alias="ci")
    spend("b" * 64, "1", alias="ci")

    shown = spendmeter("top", "--once").splitlines()
    assert [line.split()[1] for line in shown[2:]] == ["(aaaaaaaa)", "(bbbbbbbb)"]


def test_the_names_of_an_account_are_its_latest(spend: Spend, clickhouse: str, database: str) -> None:
    spend("a", "1", alias="old", team="t1", team_alias="Research", ago=timedelta(minutes=2))
    spend("a", "1", alias="new", team="t2")
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    since = datetime.now(UTC) - timedelta(hours=1)
    with connection.reader(settings) as client:
        subject = {"key": "a", "team": "t1", "user": "nobody", "model": "gpt-4o"}
        assert names_of(client, subject, since) == {"key": "new", "team": "Research"}
        assert names_of(client, {"model": "gpt-4o"}, since) == {}
