"""The schema as ClickHouse has it: what people and other programs rely on, asserted literally."""

import re
from decimal import Decimal

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.tables import TABLES, Table
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import applied_migrations, migrate, migrations

IDENTITIES = {
    "usage": (
        "ReplacingMergeTree",
        "toDate(occurred_at), key, occurred_at, event_id",
        "toYYYYMM(occurred_at)",
    ),
    "signals": (
        "ReplacingMergeTree",
        "account, emitted_at, topic, partition, offset",
        "toYYYYMM(emitted_at)",
    ),
    "alerts": ("ReplacingMergeTree", "alert_id", ""),
    "deliveries": ("ReplacingMergeTree", "alert_id, route, at, topic, partition, offset", ""),
    "budgets": ("ReplacingMergeTree", "id, updated_at, topic, partition, offset", ""),
    "decisions": ("ReplacingMergeTree", "decided_at, decision_id", "toYYYYMM(decided_at)"),
    "dead_letters": ("ReplacingMergeTree", "source_topic, source_partition, source_offset", ""),
}
FIRST_COPY_WINS = {"usage", "alerts", "decisions", "dead_letters"}


def test_a_second_migration_changes_nothing(settings: SinkSettings, history: Client) -> None:
    assert set(applied_migrations(history)) == {m.version for m in migrations()}
    again = open_client(settings, database=None)
    assert migrate(again, settings.clickhouse_database) == []
    again.close()


def test_rows_are_identified_by_what_never_changes(history: Client, database: str) -> None:
    tables = history.query(
        "SELECT name, engine, sorting_key, partition_key, create_table_query FROM system.tables"
        f" WHERE database = '{database}' AND name IN ({', '.join(repr(name) for name in IDENTITIES)})"
    ).result_rows
    assert {name: tuple(identity) for name, *identity, _ in tables} == IDENTITIES
    for name, *_, ddl in tables:
        assert "non_replicated_deduplication_window = 10000" in ddl, name
        assert ("ReplacingMergeTree(first_wins)" in ddl) is (name in FIRST_COPY_WINS), name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_has_the_columns_that_the_table_has(history: Client, database: str, table: Table) -> None:
    columns = history.query(
        "SELECT name, type FROM system.columns WHERE default_kind = ''"
        f" AND database = '{database}' AND table = '{table.name}' ORDER BY position"
    ).result_rows
    assert dict(columns) == table.columns
    assert [name for name, _ in columns] == list(table.columns)


def test_money_columns_are_exact_decimals_and_say_their_unit(history: Client, database: str) -> None:
    money = history.query(
        "SELECT table, name, type, comment FROM system.columns"
        f" WHERE database = '{database}' AND table IN ('usage', 'signals', 'budgets') AND name LIKE '%\\_usd'"
    ).result_rows
    assert len(money) >= 5
    for table, name, kind, comment in money:
        assert re.search(r"Decimal\((18|38), 9\)", kind), f"{table}.{name} is {kind}"
        assert "USD" in comment or name == "raises.amount_usd", f"{table}.{name} names no unit"


def test_a_nano_dollar_is_the_same_number_in_both_columns(history: Client) -> None:
    for nano in (0, 1, -1, 10**18 - 1, -(10**18) + 1):
        history.command(
            f"INSERT INTO usage (occurred_at, cost_usd) VALUES ('2026-01-01', {Decimal(nano).scaleb(-9):f})"
        )
    kept = history.query("SELECT cost_nanousd FROM usage ORDER BY cost_usd").result_rows
    assert [nano for (nano,) in kept] == [-(10**18) + 1, -1, 0, 1, 10**18 - 1]
