"""The engine behind ClickHouse's HTTP protocol, through the ordinary client with no special settings."""

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

ROWS_OF_TWO_CLIENT_BLOCKS = 100_000


def test_one_insert_is_one_block_and_its_repeat_adds_nothing(clickhouse: str, database: str) -> None:
    # The client cuts this at 65,536 rows, each part compressed as a frame of its own.
    client = clickhouse_connect.get_client(dsn=clickhouse)
    client.command(f"CREATE DATABASE {database}")
    client.command(
        f"CREATE TABLE {database}.t (a UInt64, b String) ENGINE = MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    rows = [[number, str(number)] for number in range(ROWS_OF_TWO_CLIENT_BLOCKS)]
    for _ in range(2):
        inserted = client.insert(
            f"{database}.t", rows, ["a", "b"], settings={"insert_deduplication_token": "topic:0:0-99999"}
        )
        assert inserted.written_rows == ROWS_OF_TWO_CLIENT_BLOCKS
        assert client.query(f"SELECT count(), sum(a) FROM {database}.t").result_rows == [
            (ROWS_OF_TWO_CLIENT_BLOCKS, sum(range(ROWS_OF_TWO_CLIENT_BLOCKS)))
        ]
    parts = client.command(f"SELECT count() FROM system.parts WHERE active AND database = '{database}'")
    assert parts == 1
    client.close()


def test_an_insert_that_the_engine_refuses_is_an_error_and_keeps_nothing(
    clickhouse: str, database: str
) -> None:
    client = clickhouse_connect.get_client(dsn=clickhouse)
    client.command(f"CREATE DATABASE {database}")
    client.command(
        f"CREATE TABLE {database}.t (a UInt64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a"
    )
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.insert(f"{database}.t", [[9], [10]], ["a"])
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT"):
        client.command(f"INSERT INTO {database}.t VALUES (10)")
    client.command(f"INSERT INTO {database}.t SETTINGS async_insert = 0 VALUES (9)")
    assert client.query(f"SELECT a FROM {database}.t").result_rows == [(9,)]
    client.close()
