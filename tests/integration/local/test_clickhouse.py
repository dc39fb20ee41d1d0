"""The engine behind ClickHouse's HTTP protocol, through the ordinary client with no special settings."""

import asyncio
import gzip
import sys
from collections import Counter
from datetime import datetime

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]
import pytest
from aiohttp import ClientSession, FormData, TCPConnector
from clickhouse_connect.driver.exceptions import DatabaseError

from spendmeter_local.clickhouse.engine import MAX_WAITING_CALLS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

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


def test_parameters_settings_and_the_database_hold_for_one_call_only(clickhouse: str, database: str) -> None:
    with clickhouse_connect.get_client(dsn=clickhouse) as client:
        client.command(f"CREATE DATABASE {database}")
        threads = "SELECT getSetting('max_threads'), currentDatabase()"
        before = client.query(threads).result_rows
        with clickhouse_connect.get_client(dsn=clickhouse, database=database) as other:
            assert other.query(threads, settings={"max_threads": 1}).result_rows == [(1, database)]
        assert client.query(threads).result_rows == before
        # ClickHouse's UTC comes back naive.
        at = datetime(2025, 1, 2, 3, 4, 5)  # noqa: DTZ001
        given = {"text": "it's\ta \\ `name`", "texts": ["'", "ü"], "at": at}
        asked = "SELECT {text:String}, {texts:Array(String)}, {at:DateTime('UTC')}"
        assert client.query(asked, given).result_rows == [tuple(given.values())]


def test_an_error_has_clickhouses_own_code(clickhouse: str) -> None:
    with clickhouse_connect.get_client(dsn=clickhouse) as client:
        with pytest.raises(DatabaseError) as refused:
            client.query("SELECT * FROM system.no_such_table")
        assert (refused.value.code, refused.value.name) == (60, "UNKNOWN_TABLE")
        with pytest.raises(DatabaseError, match="UNKNOWN_SETTING"):
            client.query("SELECT 1", transport_settings={}, settings={"no_such_setting": 1})
        assert client.command("SELECT 1") == 1


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd", "lz4"])
def test_raw_inserts_are_read_in_every_encoding(clickhouse: str, database: str, encoding: str) -> None:
    rows = b'{"a":1,"b":"x"}\n{"a":2,"b":"FORMAT y"}\n'
    compress = {"": bytes, "gzip": gzip.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}[encoding]
    with clickhouse_connect.get_client(dsn=clickhouse) as client:
        client.command(f"CREATE DATABASE {database}")
        client.command(f"CREATE TABLE {database}.t (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        inserted = client.raw_insert(
            f"{database}.t", ["a", "b"], compress(rows), fmt="JSONEachRow", compression=encoding or None
        )
        assert inserted.written_rows == 2
        assert client.raw_query(f"SELECT * FROM {database}.t ORDER BY a", fmt="JSONEachRow") == rows


async def test_the_asynchronous_client_is_served_too(clickhouse: str, database: str) -> None:
    async with await clickhouse_connect.get_async_client(dsn=clickhouse) as client:
        await client.command(f"CREATE DATABASE {database}")
        await client.command(f"CREATE TABLE {database}.t (a UInt64) ENGINE = MergeTree ORDER BY a")
        inserted = await client.insert(f"{database}.t", [[number] for number in range(10)], ["a"])
        assert inserted.written_rows == 10
        asked = (f"SELECT sum(a) + {n} FROM {database}.t" for n in range(20))
        sums = await asyncio.gather(*map(client.query, asked))
        assert [result.result_rows for result in sums] == [[(45 + n,)] for n in range(20)]


def test_what_would_hold_for_every_client_is_refused(clickhouse: str) -> None:
    with clickhouse_connect.get_client(dsn=clickhouse) as client:
        for statement in ("SET max_threads = 1", "USE system"):
            with pytest.raises(DatabaseError, match="put it in the request"):
                client.command(statement)


async def test_calls_beyond_the_queue_are_told_to_come_back(clickhouse: str) -> None:
    calls = 2 * MAX_WAITING_CALLS
    async with ClientSession(connector=TCPConnector(limit=calls)) as session:

        async def call() -> tuple[int, str | None]:
            async with session.post(clickhouse, data="SELECT sleep(0.002)") as answer:
                return answer.status, answer.headers.get("X-ClickHouse-Exception-Code")

        answers = Counter(await asyncio.gather(*(call() for _ in range(calls))))
    assert answers.keys() == {(200, None), (503, "202")}
    assert answers[200, None] >= MAX_WAITING_CALLS


async def test_curl_and_forms_are_served_too(clickhouse: str) -> None:
    async with ClientSession() as session:
        curl = {"Content-Type": "application/x-www-form-urlencoded"}
        async with session.post(clickhouse, data="SELECT 1 + 1", headers=curl) as answer:
            assert await answer.text() == "2\n"
        async with session.get(clickhouse, params={"query": "SELECT 'a' FORMAT JSONEachRow"}) as answer:
            assert await answer.text() == """{"'a'":"a"}\n"""
        form = FormData({"query": "SELECT {n:UInt8} + 1", "param_n": "2"}, default_to_multipart=True)
        async with session.post(clickhouse, data=form) as answer:
            assert await answer.text() == "3\n"
