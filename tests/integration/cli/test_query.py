"""`spendmeter query` on the real engine."""

import pytest

from sinks.clickhouse.migrate import migrate
from spendmeter.runtime import clickhouse as clickhouse_client
from spendmeter.runtime.settings import ClickHouseSettings
from tests.integration.cli.conftest import spendmeter, spendmeter_json


@pytest.fixture
def history(clickhouse: str, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database with two events, which the commands find through the environment."""
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", database)
    client = clickhouse_client.client(ClickHouseSettings(clickhouse_url=clickhouse), database=None)
    migrate(client, database)
    client.command(
        "INSERT INTO usage (event_id, key, user, occurred_at, cost_usd, tags, offset) VALUES"
        " ('00000000-0000-0000-0000-000000000001', 'k1', 'ada',"
        " '2026-11-22 12:00:00.000001', 0.000000001, ['a'], 0),"
        " ('00000000-0000-0000-0000-000000000002', 'k2', NULL,"
        " '2026-11-22 12:00:00', 123456789.123456789, [], 1)"
    )
    client.close()
    return database


def test_money_is_exact_in_json_and_in_the_table(history: str) -> None:
    sql = f"SELECT sum(cost_usd) AS spent FROM {history}.usage FINAL"
    assert spendmeter_json("query", sql) == [{"spent": "123456789.123456790"}]
    assert "123456789.123456790" in spendmeter("query", sql)


def test_each_kind_of_value_as_json(history: str) -> None:
    sql = "SELECT event_id, user, occurred_at, cost_usd, tags, offset, estimated FROM usage ORDER BY key"
    assert spendmeter_json("query", sql) == [
        {
            "event_id": "00000000-0000-0000-0000-000000000001",
            "user": "ada",
            "occurred_at": "2026-11-22T12:00:00.000001Z",
            "cost_usd": "0.000000001",
            "tags": ["a"],
            "offset": 0,
            "estimated": False,
        },
        {
            "event_id": "00000000-0000-0000-0000-000000000002",
            "user": None,
            "occurred_at": "2026-11-22T12:00:00.000000Z",
            "cost_usd": "123456789.123456789",
            "tags": [],
            "offset": 1,
            "estimated": False,
        },
    ]


def test_a_mistake_in_the_sql_is_told_in_clickhouses_words(history: str) -> None:
    told = spendmeter("query", "SELECT nothing FROM usage", exit_code=1)
    assert "Unknown expression identifier `nothing`" in told
    assert "http" not in told


def test_no_rows_are_said_so_and_are_an_empty_list(history: str) -> None:
    assert spendmeter_json("query", "SELECT key FROM usage WHERE key = 'none'") == []
    assert spendmeter("query", "SELECT key FROM usage WHERE key = 'none'").strip() == "no rows"


def test_a_missing_database_names_the_command_that_makes_it(
    history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", "not_there")
    assert "python -m sinks.clickhouse migrate" in spendmeter("query", "SELECT 1", exit_code=1)


def test_no_clickhouse_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", "http://127.0.0.1:9")
    assert "`spendmeter status` says what runs" in spendmeter("query", "SELECT 1", exit_code=1)
