"""Migrations: ordered, applied once, and never changed afterwards."""

import re

import pytest

from spendmeter_sinks.database.migrate import Migration, SchemaMismatch, migrations, pending

ONE = Migration(1, "0001_one.sql", "CREATE TABLE a (x UInt8) ENGINE = Memory;\n")
TWO = Migration(2, "0002_two.sql", "CREATE TABLE b (x UInt8) ENGINE = Memory;\n")


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [m.version for m in migrations()] == list(range(1, len(migrations()) + 1))


def test_only_what_is_new_is_applied() -> None:
    assert pending({}, [ONE, TWO]) == [ONE, TWO]
    assert pending({1: ONE.sha256}, [ONE, TWO]) == [TWO]
    assert pending({1: ONE.sha256, 2: TWO.sha256}, [ONE, TWO]) == []


def test_a_file_that_was_changed_after_it_was_applied_is_named() -> None:
    with pytest.raises(SchemaMismatch, match=r"0001_one\.sql: changed after it was applied"):
        pending({1: "another"}, [ONE, TWO])


def test_a_database_of_a_later_version_is_left_alone() -> None:
    with pytest.raises(SchemaMismatch, match=r"migrations \[3\] that this version does not know"):
        pending({1: ONE.sha256, 3: "x"}, [ONE, TWO])


def test_statements_are_cut_at_semicolons_that_end_a_line() -> None:
    first = "-- a; comment\nCREATE TABLE a (x String COMMENT 'a; b') ENGINE = Memory"
    sql = f"{first};\n-- end\n\nSELECT 1;\n-- rest\n"
    assert list(Migration(1, "m", sql).statements()) == [
        first,
        "-- end\n\nSELECT 1",
    ]


def test_every_statement_may_be_run_again() -> None:
    for migration in migrations():
        for statement in migration.statements():
            assert re.search(
                r" IF NOT EXISTS |\bCREATE OR REPLACE VIEW |\bMODIFY SETTING |\bMATERIALIZE PROJECTION ",
                statement,
            ), f"{migration.name}: {statement[:60]}"
