"""`spendmeter query` on the real engine."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from spendmeter.cli import answers
from spendmeter.runtime import clickhouse as clickhouse_client
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.database.migrate import migrate
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
    assert "spendmeter sink migrate" in spendmeter("query", "SELECT 1", exit_code=1)


def test_no_clickhouse_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", "http://127.0.0.1:9")
    assert "`spendmeter status` says what runs" in spendmeter("query", "SELECT 1", exit_code=1)


SQL = "SELECT key, cost_usd, event_id, tags FROM usage ORDER BY key"


def test_an_answer_is_written_as_it_comes_in_each_format(
    history: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "CHUNK_BYTES", 7)
    expected = spendmeter_json("query", SQL)

    rows = list(csv.DictReader(io.StringIO(spendmeter("query", SQL, "--format", "csv"))))
    lines = [json.loads(line) for line in spendmeter("query", SQL, "--format", "jsonl").splitlines()]
    file = tmp_path / "answer.parquet"
    spendmeter("query", f"{SQL};", "--format", "parquet", "--output", str(file))

    assert [Decimal(row["cost_usd"]) for row in rows] == [Decimal(row["cost_usd"]) for row in expected]
    assert [row["event_id"] for row in rows] == [row["event_id"] for row in expected]
    assert [Decimal(row["cost_usd"]) for row in lines] == [Decimal(row["cost_usd"]) for row in expected]
    assert all(isinstance(row["cost_usd"], str) for row in lines), (
        "JSON's numbers are rounded by most readers"
    )
    assert pyarrow.parquet.read_table(file).column("cost_usd").to_pylist() == [
        Decimal(row["cost_usd"]) for row in expected
    ]
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_a_query_has_no_bound_on_its_rows(history: str, tmp_path: Path) -> None:
    file = tmp_path / "numbers.csv"

    spendmeter("query", "SELECT number FROM numbers(1000002)", "--format", "csv", "--output", str(file))

    assert file.read_bytes().count(b"\n") == 1_000_003


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--format", "csv", "--json"), "either --json or --format"),
        (("--output", "x.csv"), "--output needs a --format: csv, jsonl, parquet"),
        (("--format", "xlsx"), "'table', 'csv', 'jsonl', 'parquet'"),
    ],
)
def test_options_that_exclude_one_another_are_refused(given: tuple[str, ...], said: str) -> None:
    assert said in spendmeter("query", "SELECT 1", *given, exit_code=2)


@pytest.mark.parametrize("sql", ["SELECT 1 FORMAT CSV", "SELECT 1 format JSONEachRow ;"])
def test_a_format_in_the_query_is_said_to_be_an_option(sql: str) -> None:
    assert "the option --format" in spendmeter("query", sql, "--format", "csv", exit_code=2)


def test_what_is_no_format_is_asked(history: str) -> None:
    assert spendmeter_json("query", "SELECT 1 AS format ORDER BY format DESC") == [{"format": 1}]


def test_a_query_that_fails_leaves_no_file(history: str, tmp_path: Path) -> None:
    said = spendmeter(
        *("query", "SELECT throwIf(number = 70000) FROM numbers(100000)"),
        *("--format", "csv", "--output", str(tmp_path / "x.csv")),
        exit_code=1,
    )

    assert "Value passed to 'throwIf'" in said
    assert list(tmp_path.iterdir()) == []


def kept(history: str) -> object:
    """What a query that changed anything would have changed."""
    counted = f"SELECT count() AS events, sum(cost_usd) AS spent FROM {history}.usage"
    tables = f"SELECT count() AS n FROM system.tables WHERE database = '{history}'"
    return [spendmeter_json("query", sql) for sql in (counted, tables)]


CHANGES = """
DROP TABLE usage
DROP DATABASE {database}
drop/**/table usage
/* SELECT */ DROP TABLE usage
-- SELECT 1
TRUNCATE TABLE usage
ALTER TABLE usage DELETE WHERE 1
ALTER TABLE usage UPDATE cost_usd = 0 WHERE 1
DELETE FROM usage WHERE 1
ALTER TABLE usage DROP COLUMN cost_usd
ALTER TABLE usage DROP PARTITION 202611
RENAME TABLE usage TO gone
CREATE TABLE more (a UInt8) ENGINE = Memory
CREATE TABLE more ENGINE = Memory AS SELECT 1
CREATE TEMPORARY TABLE more (a UInt8)
CREATE VIEW more AS SELECT 1
INSERT INTO usage (key) VALUES ('k3')
INSERT INTO usage (key) SELECT 'k3'
INSERT INTO FUNCTION file('{file}', 'TSV', 'a String') SELECT 'a'
OPTIMIZE TABLE usage FINAL
DETACH TABLE usage
EXCHANGE TABLES usage AND alerts
SET readonly = 0
SELECT 1 SETTINGS readonly = 0
SELECT 1 SETTINGS max_execution_time = 0
SELECT 1; DROP TABLE usage
SELECT 1 /* ; */; DROP TABLE usage; --
SELECT ';'; DROP TABLE usage
SELECT $$;$$; ALTER TABLE usage DELETE WHERE 1
SELECT 1 INTO OUTFILE '{file}'
SELECT 1 /* INTO */ INTO /**/ OUTFILE '{file}' TRUNCATE
SELECT * FROM file('{file}', 'LineAsString')
SELECT file('{file}')
SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')
SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')
SELECT * FROM remote('127.0.0.1', 'system.one')
SELECT * FROM executable('id', 'TSV', 'x String')
GRANT SELECT ON *.* TO default
CREATE USER x
KILL QUERY WHERE 1 SYNC SETTINGS readonly = 0
""".strip().splitlines()


def test_whatever_does_more_than_read_is_refused_in_a_sentence(history: str, tmp_path: Path) -> None:
    before, file = kept(history), tmp_path / "file"
    file.write_text("what no query may read\n")
    for change in CHANGES:
        sql = change.format(database=history, file=file)
        if sql.startswith("--"):
            sql += "\nDROP TABLE usage"
        said = spendmeter("query", "--", sql, exit_code=1)
        assert said.startswith("Error: "), sql
        assert len(said.splitlines()) == 1, f"{sql}: {said}"
        assert "what no query may read" not in said
        assert "Traceback" not in said
        assert "127.0.0.1:" not in said.replace("127.0.0.1:1", ""), f"{sql}: the server's address: {said}"
    assert kept(history) == before
    assert file.read_text() == "what no query may read\n"


ADVICE = {
    "DROP TABLE usage": "commands only read history, nothing was changed",
    "SELECT 1; DROP TABLE usage": "one statement at a time; nothing was run",
    "SELECT 1 SETTINGS readonly = 0": "settings cannot be changed in a query that reads",
    "SELECT 1 INTO OUTFILE 'x'": "a query writes no files; nothing was run",
    "SELECT * FROM numbers(1000001)": "too much to print: add a LIMIT",
}


def test_a_refusal_says_what_to_do(history: str) -> None:
    for sql, said in ADVICE.items():
        assert spendmeter("query", sql, exit_code=1).startswith(f"Error: {said}")


def test_a_query_that_runs_too_long_or_holds_too_much_is_stopped(
    history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPENDMETER_QUERY_MAX_SECONDS", "1")
    said = spendmeter("query", "SELECT max(cityHash64(number)) FROM numbers(1000000000000)", exit_code=1)
    assert said.startswith(
        "Error: it ran too long and was stopped: ask for less, or raise SPENDMETER_QUERY_MAX_"
    )
    monkeypatch.setenv("SPENDMETER_QUERY_MAX_SECONDS", "60")
    monkeypatch.setenv("SPENDMETER_QUERY_MAX_MEMORY_BYTES", str(2**25))
    said = spendmeter("query", "SELECT length(groupArray(number)) FROM numbers(100000000)", exit_code=1)
    assert said.startswith(
        "Error: it needs too much memory: ask for less, or raise SPENDMETER_QUERY_MAX_MEMORY"
    )


READS = """
SELECT 1;
SELECT 'a; DROP TABLE usage' -- ; DROP TABLE usage
SELECT $$a; DROP TABLE usage$$ /* ; */ ;
WITH 1 AS one SELECT one
FROM usage SELECT count()
(SELECT 1) UNION ALL (SELECT 2)
SHOW TABLES
DESCRIBE TABLE usage
EXPLAIN SELECT count() FROM usage
EXISTS TABLE usage
SELECT * FROM usage_net LIMIT 1
SELECT count() FROM numbers(10)
SELECT max(offset) FROM merge(currentDatabase(), '^usage$')
""".strip().splitlines()


def test_every_statement_that_reads_is_answered(history: str) -> None:
    for sql in READS:
        assert spendmeter("query", sql), sql


def test_the_engine_itself_keeps_a_reader_from_changing_anything(clickhouse: str, history: str) -> None:
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=history)
    with clickhouse_client.reader(settings) as client:
        assert client.command("SELECT getSetting('readonly')") == 1
        for change in ("DROP TABLE usage", "INSERT INTO usage (key) VALUES ('k3')"):
            with pytest.raises(DatabaseError, match="READONLY"):
                client.command(change)
        with pytest.raises(DatabaseError, match="READONLY"):
            client.insert("alerts", [["x"]], column_names=["message"])


def test_a_wrong_password_names_the_settings_and_a_password_in_the_url_is_never_said(
    history: str, clickhouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = clickhouse.rpartition("@")[2]
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", f"http://default:hunter2@{address}")
    for command in (["query", "SELECT 1"], ["top", "--once"], ["explain"], ["reconcile", "--wait", "0"]):
        said = spendmeter(*command, exit_code=2 if command[0] == "reconcile" else 1)
        assert "hunter2" not in said
        if command[0] != "reconcile":
            assert "set SPENDMETER_CLICKHOUSE_USER and SPENDMETER_CLICKHOUSE_PASSWORD" in said, said
