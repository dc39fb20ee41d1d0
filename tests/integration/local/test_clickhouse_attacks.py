"""The local ClickHouse against whoever reaches its port: other users, web pages, and curious queries."""

import asyncio
import base64
import gzip
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from spendmeter_local.clickhouse import server as front
from spendmeter_local.clickhouse.engine import Engine
from tests.patience import WITHIN_SECONDS

SECRET = "what-no-query-may-read"
NO_ENGINE = cast(Engine, None)
"""Where no statement arrives whole, so that none is run."""


@pytest.fixture
def url(clickhouse: str) -> URL:
    """The engine's, without user and password."""
    return URL(clickhouse).with_user(None)


@pytest.fixture
async def ours(clickhouse: str, database: str) -> AsyncIterator[ClientSession]:
    """A session of somebody who knows the password, and a database with one row."""
    async with ClientSession(headers={"Authorization": basic(clickhouse)}) as session:
        at = URL(clickhouse).with_user(None)
        for sql in (
            f"CREATE DATABASE {database}",
            f"CREATE TABLE {database}.t (a String) ENGINE = MergeTree ORDER BY a",
            f"INSERT INTO {database}.t VALUES ('kept')",
        ):
            assert await said(session, at, sql) == (200, "")
        yield session


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's that the engine's process could read."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    return file


def basic(clickhouse: str) -> str:
    found = URL(clickhouse)
    return "Basic " + base64.b64encode(f"{found.user}:{found.password}".encode()).decode()


async def said(
    session: ClientSession, at: URL, sql: str | bytes, method: str = "POST", **params: str
) -> tuple[int, str]:
    if method == "GET":
        call = session.get(at, params={"query": sql.decode() if isinstance(sql, bytes) else sql, **params})
    else:
        call = session.post(at, data=sql, params=params)
    async with call as answer:
        return answer.status, await answer.text()


async def rows(session: ClientSession, at: URL, database: str) -> str:
    status, text = await said(session, at, f"SELECT a FROM {database}.t ORDER BY a")
    assert status == 200, text
    return text


WRONG: dict[str, dict[str, str]] = {
    "nothing": {},
    "no password": {"Authorization": "Basic " + base64.b64encode(b"default:").decode()},
    "a wrong password": {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "guessed"},
    "no Basic": {"Authorization": "Bearer x"},
    "odd bytes": {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
async def test_without_the_password_nothing_is_run(
    ours: ClientSession, url: URL, database: str, headers: dict[str, str]
) -> None:
    async with ClientSession(headers=headers) as stranger:
        for method in ("GET", "POST"):
            status, text = await said(stranger, url, f"DROP TABLE {database}.t", method)
            assert status == 401
            assert "clickhouse.password" in text
    assert await rows(ours, url, database) == "kept\n"


async def test_the_right_password_of_another_user_is_refused(clickhouse: str, url: URL) -> None:
    headers = {"X-ClickHouse-User": "admin", "X-ClickHouse-Key": URL(clickhouse).password or ""}
    async with ClientSession(headers=headers) as session:
        assert (await said(session, url, "SELECT 1"))[0] == 401
    async with ClientSession(headers={**headers, "X-ClickHouse-User": "default"}) as session:
        assert await said(session, url, "SELECT 1") == (200, "1\n")


async def test_a_strangers_body_is_not_even_read(url: URL) -> None:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000000\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), WITHIN_SECONDS)).startswith(b"HTTP/1.1 401 ")
    writer.close()


@pytest.mark.parametrize("readonly", ["", "0", "2"])
async def test_get_only_reads_whatever_it_asks_for(
    ours: ClientSession, url: URL, database: str, readonly: str
) -> None:
    settings = {"readonly": readonly} if readonly else {}
    for sql in (
        f"INSERT INTO {database}.t VALUES ('added')",
        f"INSERT INTO {database}.t SELECT 'added'",
        f"DROP TABLE {database}.t",
        f"ALTER TABLE {database}.t DELETE WHERE 1",
        f"TRUNCATE TABLE {database}.t",
        f"CREATE TABLE {database}.u (a String) ENGINE = MergeTree ORDER BY a",
        f"OPTIMIZE TABLE {database}.t FINAL",
    ):
        status, text = await said(ours, url, sql, "GET", **settings)
        assert (status, "READONLY" in text) == (403, True), text
        async with ours.head(url, params={"query": sql, **settings}) as answer:
            assert answer.status == 403
    assert (await said(ours, url, "SELECT 1 SETTINGS readonly = 0", "GET"))[0] == 403
    assert await said(ours, url, f"SELECT a FROM {database}.t", "GET", **settings) == (200, "kept\n")
    assert await rows(ours, url, database) == "kept\n"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_refused(ours: ClientSession, url: URL, method: str) -> None:
    async with ours.request(method, url, data="SELECT 1") as answer:
        assert answer.status == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost@evil.example", "0"])
async def test_a_name_that_was_made_to_point_here_is_refused(
    ours: ClientSession, url: URL, host: str
) -> None:
    for path in ("/", "/ping"):
        async with ours.get(url.with_path(path), headers={"Host": host}) as answer:
            assert answer.status == 403
            assert "127.0.0.1 or localhost" in await answer.text()
    async with ours.post(url, data="SELECT 1", headers={"Host": f"localhost:{url.port}"}) as answer:
        assert answer.status == 200


PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("page", PAGES, ids=str)
async def test_web_pages_are_refused_even_with_the_password(
    ours: ClientSession, url: URL, page: dict[str, str]
) -> None:
    async with ours.post(url, data="SELECT 1", headers=page) as answer:
        assert answer.status == 403
        assert "not web pages" in await answer.text()
        assert "Access-Control-Allow-Origin" not in answer.headers


READS = """
SELECT file('{secret}')
SELECT `file`('{secret}')
SELECT "file" /* ( */ ('{secret}')
SELECT FILE('{secret}')
SELECT * FROM file('{secret}', 'LineAsString')
SELECT * FROM file('../../../../../../../../{secret}', 'LineAsString')
SELECT * FROM fileCluster('default', '{secret}', 'LineAsString')
SELECT * FROM filesystem('{folder}')
SELECT * FROM `{secret}`
SELECT * FROM default.`{secret}`
SELECT * FROM url('file://{secret}', 'LineAsString')
SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')
SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')
SELECT * FROM remote('127.0.0.1', 'system.one')
SELECT * FROM remoteSecure('127.0.0.1', 'system.one')
SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')
SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')
SELECT * FROM sqlite('{secret}', 'x')
SELECT * FROM icebergLocal('{folder}')
SELECT * FROM deltaLakeLocal('{folder}')
SELECT * FROM executable('id', 'TSV', 'x String')
SELECT * FROM Python('engine')
SELECT * FROM eval('SELECT file(''{secret}'')')
SELECT * FROM view(SELECT file('{secret}'))
SELECT * FROM loop(file('{secret}', 'LineAsString'))
SELECT aiGenerate('x')
SELECT hasColumnInTable('127.0.0.1:1', 'default', '', 'system', 'one', 'dummy')
SELECT 1 SETTINGS additional_result_filter = 'throwIf(1, file(''{secret}''))'
SELECT a FROM {database}.t SETTINGS additional_table_filters = {{'{database}.t': 'file(''{secret}'')'}}
DESCRIBE TABLE file('{secret}')
EXPLAIN SELECT * FROM file('{secret}', 'LineAsString')
SELECT 1 FORMAT Protobuf SETTINGS format_schema = '{secret}:X'
SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{secret}'
INSERT INTO {database}.t VALUES (file('{secret}'))
INSERT INTO {database}.t VALUES (file(assumeNotNull('{secret}')))
INSERT INTO {database}.t VALUES ('a'), (file(assumeNotNull('{secret}'))), (file(assumeNotNull('{secret}')))
INSERT INTO {database}.t FORMAT Values (upper('no SQL in rows'))
SELECT * FROM format(Values, 'a String', $$(file(assumeNotNull('{secret}')))$$)
INSERT INTO {database}.t SELECT file('{secret}')
INSERT INTO {database}.t FROM INFILE '{secret}' FORMAT LineAsString
INSERT INTO {database}.t FROM /*'*/ INFILE '{secret}' /*'*/ FORMAT LineAsString
INSERT INTO {database}.t # FORMAT\\n FROM INFILE '{secret}' FORMAT LineAsString
INSERT INTO {database}.t SELECT $$'$$ FROM file('{secret}') -- '
CREATE TABLE {database}.x (a String) ENGINE = File(LineAsString, '{secret}')
CREATE TABLE {database}.x (a String) ENGINE = URL('http://127.0.0.1:1/', 'LineAsString')
CREATE TABLE {database}.x (a String DEFAULT file('{secret}')) ENGINE = Memory
CREATE TABLE {database}.x ENGINE = Memory AS SELECT file('{secret}')
CREATE VIEW {database}.x AS SELECT file('{secret}')
CREATE DATABASE {database}_files ENGINE = Filesystem('{folder}')
CREATE DICTIONARY {database}.x (k UInt64) PRIMARY KEY k SOURCE(FILE(path '{secret}')) LAYOUT(FLAT())
CREATE DICTIONARY {database}.x (k UInt64) PRIMARY KEY k SOURCE(EXECUTABLE(command 'id')) LAYOUT(FLAT())
CREATE TABLE {database}.x (a String) ENGINE = FileLog('{folder}/', 'LineAsString')
CREATE TABLE {database}.x (a String) ENGINE = Executable('id', 'TSV')
CREATE TABLE {database}.x (a String) ENGINE = `ExecutablePool`('id', 'TSV')
CREATE MATERIALIZED VIEW {database}.x REFRESH EVERY 1 DAY ENGINE = Memory AS SELECT file('{secret}') a
CREATE FUNCTION x AS (path) -> file(path)
CREATE USER x
CREATE NAMED COLLECTION x AS a = 1
ATTACH TABLE {database}.x FROM '{folder}/' (a String) ENGINE = File(LineAsString)
ALTER TABLE {database}.t ADD COLUMN b String DEFAULT file('{secret}')
ALTER TABLE {database}.t UPDATE a = file('{secret}') WHERE 1
RESTORE TABLE {database}.x FROM File('{secret}')
""".strip().splitlines()

WRITES = """
SELECT 'x' INTO OUTFILE '{target}'
SELECT 'x' INTO /* ' */ OUTFILE '{target}' TRUNCATE FORMAT TSV
EXPLAIN AST SELECT 1 INTO OUTFILE '{target}'
SHOW TABLES INTO OUTFILE '{target}'
INSERT INTO FUNCTION file('{target}', 'TSV', 'x String') SELECT 'x'
BACKUP TABLE {database}.t TO File('{target}')
CREATE TABLE {database}.x (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(path = '{target}/')
CREATE TABLE {database}.x (k UInt64) ENGINE = EmbeddedRocksDB(0, '{target}') PRIMARY KEY k
CREATE TABLE {database}.x (k UInt64) ENGINE /* = Memory */ = EmbeddedRocksDB(0, '{target}', 1) PRIMARY KEY k
CREATE DATABASE {database}_sqlite ENGINE = SQLite('{target}')
""".strip().splitlines()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_statement_reads_or_writes_what_is_not_the_engines(
    ours: ClientSession, url: URL, database: str, secret: Path, method: str
) -> None:
    target = secret.with_name("written")
    for statement in (*READS, *WRITES):
        sql = statement.replace("\\n", "\n").format(
            secret=secret, folder=secret.parent, target=target, database=database
        )
        status, text = await said(ours, url, sql, method)
        assert 400 <= status <= 500, f"{sql}: {text}"
        assert SECRET not in text, sql
        # A refusal, not a file that happened to be missing.
        assert "No such file" not in text, text
        assert not target.exists(), sql
    assert await rows(ours, url, database) == "kept\n"
    assert sorted(file.name for file in secret.parent.iterdir()) == ["secret"]


async def test_settings_of_the_request_open_no_file_either(
    ours: ClientSession, url: URL, secret: Path, database: str
) -> None:
    for name in ("format_schema", "format_template_row", "input_format_record_errors_file_path", "dialect"):
        status, text = await said(ours, url, "SELECT 1", "POST", **{name: str(secret)})
        assert status >= 400, name
        assert SECRET not in text
    filters = {"additional_result_filter": f"throwIf(1, file('{secret}'))", "readonly": "1"}
    status, text = await said(ours, url, "SELECT 1", "POST", **filters)
    assert (status, SECRET in text) == (400, False), text
    for name in ("interpret_expressions", "deduce_templates_of_expressions"):
        values = {f"input_format_values_{name}": "1"}
        sql = f"INSERT INTO {database}.t VALUES (file(assumeNotNull('{secret}')))"
        status, text = await said(ours, url, sql, **values)
        assert (status, "SETTING_CONSTRAINT_VIOLATION" in text) == (400, True), text
    assert await rows(ours, url, database) == "kept\n"


SEVERAL = """
SELECT 1; DROP TABLE {t}
SELECT 1;\\nDROP TABLE {t};
SELECT 1 -- a comment\\n; DROP TABLE {t}
SELECT 1 /* ; */ ; DROP TABLE {t}
SELECT ';' ; DROP TABLE {t}
SELECT $$;$$ ; DROP TABLE {t}
SELECT 'it\\\\'; DROP TABLE {t} --'
;DROP TABLE {t}; SELECT 1
DROP TABLE {t}; SELECT 1
SELECT 1 FORMAT TSV; DROP TABLE {t}
EXPLAIN SELECT 1; DROP TABLE {t}
INSERT INTO {t} SELECT 'added'; DROP TABLE {t}
""".strip().splitlines()


async def test_one_statement_at_a_time_is_run_or_none(ours: ClientSession, url: URL, database: str) -> None:
    for statement in SEVERAL:
        sql = statement.replace("\\n", "\n").format(t=f"{database}.t")
        for method in ("GET", "POST"):
            status, text = await said(ours, url, sql, method)
            assert (status, "SYNTAX_ERROR" in text) == (400, True), f"{sql}: {text}"
    # The rows of VALUES are rows to their end.
    await said(ours, url, f"INSERT INTO {database}.t VALUES ('row'); DROP TABLE {database}.t")
    assert "kept\n" in await rows(ours, url, database)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'kept; DROP TABLE t' -- ; DROP TABLE t",
        "SELECT 'kept' /* ; DROP TABLE t */;",
        "SELECT $$kept; DROP TABLE t$$ ;;",
        "SELECT 'kept' # ; INTO OUTFILE 'x'",
        "SELECT 'kept, INTO OUTFILE ''x'' and file(''x'')'",
        "SELECT `INTO OUTFILE` FROM (SELECT 'kept' AS `INTO OUTFILE`)",
        "WITH 'kept' AS file SELECT file",
        "\ufeffSELECT 'kept'",
    ],
)
async def test_what_only_looks_like_more_is_served(ours: ClientSession, url: URL, sql: str) -> None:
    status, text = await said(ours, url, sql)
    if sql.startswith("\ufeff"):
        assert status in (200, 400)
    else:
        assert (status, text[:4]) == (200, "kept"), text


async def test_odd_encodings_are_answered_in_words_and_nothing_ends(ours: ClientSession, url: URL) -> None:
    for body in (
        b"SELECT '\xff\xfe'; \xff",
        "SELECT 1".encode("utf-16"),
        b"\xff",
        b"SELECT 1\x00; DROP",
        b"",
        b"(",
    ):
        status, text = await said(ours, url, body)
        assert status == 400, (body, text)
        assert "DB::Exception" in text
    for query in ("query=%ff%fe", "query=%ED%A0%80", "query=SELECT+%00", "query_id=%0d%0aX:%201&query=%28"):
        async with ours.get(URL(f"{url}/?{query}", encoded=True)) as answer:
            assert answer.status == 400, (query, await answer.text())
            assert "X" not in answer.headers
    for encoding, code in (("br", "48"), ("gzip", "271")):
        async with ours.post(url, data=b"SELECT 1", headers={"Content-Encoding": encoding}) as answer:
            assert answer.headers["X-ClickHouse-Exception-Code"] == code
    assert await said(ours, url, "SELECT 1") == (200, "1\n")


async def test_a_body_beyond_the_bound_is_refused_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MAX_BODY_BYTES", 1_000_000)
    headers = {"X-ClickHouse-Key": "known"}
    bodies = {"identity": b" " * 1_000_001, "gzip": gzip.compress(b" " * 20_000_000)}
    async with TestClient(TestServer(front.build_app(NO_ENGINE, "known"))) as client:
        for encoding, body in bodies.items():
            packed = {**headers, "Content-Encoding": encoding}
            async with client.post("/", data=body, headers=packed) as answer:
                assert answer.status == 413
                assert "1,000,000" in (await answer.text()).replace("1000000", "1,000,000")


async def test_slow_clients_hold_up_nobody_and_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_WITHIN_SECONDS", 0.2)
    async with TestClient(TestServer(front.build_app(NO_ENGINE, "known"))) as client:

        async def forever() -> AsyncIterator[bytes]:
            yield b"SELECT "
            await asyncio.Event().wait()

        headers = {"X-ClickHouse-Key": "known"}
        slow: Any = asyncio.create_task(client.post("/", data=forever(), headers=headers))
        async with client.get("/ping") as answer:
            assert answer.status == 200
        async with await asyncio.wait_for(slow, WITHIN_SECONDS) as answer:
            assert answer.status == 408
            assert "did not arrive within 0.2 s" in await answer.text()


def test_an_engine_that_cannot_read_its_grants_does_not_open(tmp_path: Path) -> None:
    directory = tmp_path / "a&b"
    opened = subprocess.run(
        [sys.executable, "-m", "spendmeter_local.clickhouse", "--path", str(directory), "--port", "1"],
        env={**os.environ, front.PASSWORD_VARIABLE: "x"},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert opened.returncode == 1
    assert "a path with & or ? in it cannot be served" in opened.stderr
    assert "Traceback" not in opened.stderr


def test_without_a_password_nothing_is_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spendmeter_local.clickhouse", "--path", str(tmp_path), "--port", "1"]
    env = {name: value for name, value in os.environ.items() if name != front.PASSWORD_VARIABLE}
    started = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=WITHIN_SECONDS, check=False
    )
    assert started.returncode == 2
    assert "SPENDMETER_CLICKHOUSE_PASSWORD must be set" in started.stderr
