"""An insert's rows are told from its SQL, whatever the names in it look like."""

import pytest

from spendmeter_local.clickhouse.statements import Insert, Query, read_statement, without_literals


@pytest.mark.parametrize(
    ("text", "sql", "format_", "rows"),
    [
        (b"INSERT INTO t (a) FORMAT Native\n\x01\x02", "INSERT INTO t (a) ", "Native", b"\x01\x02"),
        (b"INSERT INTO t FORMAT JSONEachRow\n{}\n", "INSERT INTO t ", "JSONEachRow", b"{}\n"),
        (b'insert into t format CSV\r\n"a"', "insert into t ", "CSV", b'"a"'),
        (b"INSERT INTO t FORMAT TSV\n\nx", "INSERT INTO t ", "TSV", b"\nx"),
        (b"INSERT INTO t VALUES (1),(2)", "INSERT INTO t ", "Values", b" (1),(2)"),
        (
            b"INSERT INTO `FORMAT x` (`VALUES`) FORMAT CSV\n1",
            "INSERT INTO `FORMAT x` (`VALUES`) ",
            "CSV",
            b"1",
        ),
        (b"INSERT INTO t (format, values) FORMAT CSV\n1", "INSERT INTO t (format, values) ", "CSV", b"1"),
        (b"INSERT INTO t /* FORMAT no */ FORMAT CSV\n1", "INSERT INTO t /* FORMAT no */ ", "CSV", b"1"),
        (
            b"INSERT INTO t SETTINGS insert_deduplication_token='FORMAT \\' x' FORMAT CSV\n1",
            "INSERT INTO t SETTINGS insert_deduplication_token='FORMAT \\' x' ",
            "CSV",
            b"1",
        ),
    ],
)
def test_rows_begin_after_the_format(text: bytes, sql: str, format_: str, rows: bytes) -> None:
    assert read_statement(text) == Insert(sql, format_, rows)


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t SELECT 1 FORMAT Native",
        b"INSERT INTO t (a) WITH 1 AS x SELECT x",
        b"INSERT INTO t FROM INFILE 'f' FORMAT CSV",
        b"INSERT INTO t # FORMAT CSV\nSELECT 1",
        b"INSERT INTO t #! VALUES (1)\nSELECT 1",
        b"INSERT INTO t SELECT $$ FORMAT CSV $$, $x$ $$ VALUES $x$",
        b"CREATE TABLE t (a String DEFAULT 'INSERT INTO x VALUES') ENGINE = Memory",
    ],
)
def test_a_statement_that_carries_no_rows_is_a_query(text: bytes) -> None:
    statement = read_statement(text)
    assert isinstance(statement, Query)
    assert statement.sql == text.decode()
    assert not statement.returns_rows


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\n format Native;\n", "Native"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"-- about\nWITH 1 AS x SELECT x", None),
        (b"(SELECT format FROM t)", None),
    ],
)
def test_a_query_says_which_format_it_asks_for(text: bytes, format_: str | None) -> None:
    statement = read_statement(text)
    assert isinstance(statement, Query)
    assert statement.format == format_
    assert statement.returns_rows or text.startswith(b"(")


def test_texts_and_quoted_names_of_a_parsed_statement_are_left_out() -> None:
    parsed = "SELECT 'INTO OUTFILE \\' file(', `eval(\\` x`, file('x') FROM t"
    assert without_literals(parsed) == "SELECT '', '', file('') FROM t"
