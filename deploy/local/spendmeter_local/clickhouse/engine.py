"""The ClickHouse engine in this process (chDB), one call at a time on a thread of its own.

**One insert is one block**, whatever its number of rows: ClickHouse inserts a block whole or not
at all, and a deduplication token identifies one block. By default the engine cuts at about a million rows or
256 MB, and clickhouse-connect sends blocks of its own (65,536 rows for rows of about 32 bytes). The only
limit left is memory: an insert is held whole, so `MAX_BODY_BYTES` of the HTTP front bounds it.

**Only its own directory**: chDB would let any statement read and write every file of the user, and call every
URL. The engine's own grants refuse that (`engine_grants.xml`: no SOURCES; its profile pins the settings
that name files). Where no grant applies, we check the statement as the engine's parser writes it
(docs/decisions/0021).
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar
from xml.sax.saxutils import escape

from spendmeter.runtime.clickhouse import ONE_INSERT_IS_ONE_BLOCK
from spendmeter_local.clickhouse.statements import Insert, Query, without_literals

MAX_WAITING_CALLS = 256

TOO_MANY_SIMULTANEOUS_QUERIES = 202  # ClickHouse's own error codes
UNKNOWN_SETTING = 115
INTO_OUTFILE_NOT_ALLOWED = 358
ACCESS_DENIED = 497
UNKNOWN_EXCEPTION = 1002

GRANTS = Path(__file__).with_name("engine_grants.xml")
_OUR_OWN_STATEMENT = re.compile(r": In scope SELECT formatQuery.*(?=\(\w+\)\s*$)", re.DOTALL)
_FILE_CLAUSE = re.compile(r"\b(?:INTO OUTFILE|FROM INFILE)\b", re.IGNORECASE)
# Functions that no grant covers: a file's content, SQL in a text, a program, an object of this process,
# another disk, other servers.
_UNGRANTED = re.compile(r"(?<!\w)(file|eval|executable|python|disk|hasColumnInTable|ai\w+)\(", re.IGNORECASE)
# Engines that store rows in the engine's own directory; EmbeddedRocksDB, for example, may name another path.
_ENGINE = re.compile(r"\bENGINE = ([^\s(]+)")
_KEPT_HERE = re.compile(r"\w*MergeTree|Memory|Null|Atomic")

T = TypeVar("T")


class EngineError(Exception):
    """The engine refused; `code` is ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Context:
    """The database, settings and query parameters of one call, as text."""

    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    readonly: int = 0
    """ClickHouse's: 1, nothing can be changed; 2, nothing but settings; whatever the statement says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call."""

    body: bytes
    read_rows: int
    written_rows: int
    elapsed_seconds: float


def engine_error(code: int, message: str) -> EngineError:
    """An error of ours in ClickHouse's format."""
    return EngineError(code, f"Code: {code}. DB::Exception: {message}")


class Engine:
    """ClickHouse at `path`. Opens on construction; call from one event loop, `close` once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "clickhouse-engine")
        self._waiting = 0
        self._connection = self._thread.submit(_open, path).result()
        self._spool = path / "spool"
        self._spool.mkdir(exist_ok=True)
        for left_by_a_crash in self._spool.iterdir():
            left_by_a_crash.unlink()

    async def query(self, query: Query, default_format: str, context: Context) -> Answer:
        """Run any one statement. Raises EngineError."""
        return await self._call(
            lambda connection: self._query(connection, query.sql, default_format, context), context
        )

    async def insert(self, insert: Insert, context: Context) -> Answer:
        """Insert rows as one block. Raises EngineError; then nothing was stored."""
        return await self._call(lambda connection: self._insert(connection, insert), context)

    def close(self) -> None:
        """Finish running calls, then close the engine."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def _call(self, work: Callable[[Any], T], context: Context) -> T:
        if self._waiting >= MAX_WAITING_CALLS:
            raise engine_error(TOO_MANY_SIMULTANEOUS_QUERIES, f"{MAX_WAITING_CALLS} queries wait already")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, lambda: self._within(context, work))
        finally:
            self._waiting -= 1

    def _within(self, context: Context, work: Callable[[Any], T]) -> T:
        try:
            if context.readonly:
                return self._reading(context, work)
            return self._writing(context, work)
        except RuntimeError as error:
            raise _engine_error(error) from None

    def _writing(self, context: Context, work: Callable[[Any], T]) -> T:
        """Run `work` with the context's database and settings, and reset these afterwards."""
        try:
            _prepare(self._connection, context)
            return work(self._connection)
        finally:
            for name in context.settings:
                self._restore(name)

    def _reading(self, context: Context, work: Callable[[Any], T]) -> T:
        """Run `work` in a session of its own: a session never leaves `readonly` again."""
        session = _connect(self._path)
        try:
            _prepare(session, context)
            session.query(f"SET readonly = {context.readonly}", "Null")
            return work(session)
        finally:
            session.close()

    def _restore(self, name: str) -> None:
        ours = ONE_INSERT_IS_ONE_BLOCK.get(name)
        try:
            self._connection.query(f"SET {_identifier(name)} = {'DEFAULT' if ours is None else ours}", "Null")
        except RuntimeError as error:
            # A setting that the engine does not know was never set: that was the call's own error.
            if _engine_error(error).code != UNKNOWN_SETTING:
                raise

    def _query(self, connection: Any, sql: str, default_format: str, context: Context) -> Answer:
        refuse_files(_parsed(connection, sql))
        result = connection.query(sql, default_format, params=dict(context.parameters))
        return Answer(result.bytes() or b"", result.rows_read(), result.rows_written(), result.elapsed())

    def _insert(self, connection: Any, insert: Insert) -> Answer:
        refuse_files(_parsed(connection, f"{insert.sql} FORMAT {insert.format}"))
        # From a file: chDB 4.4's streamed insert reports rows that the engine refused (a violated
        # constraint, say) as written, without an error.
        with NamedTemporaryFile(dir=self._spool, suffix=".rows") as file:
            file.write(insert.rows)
            file.flush()
            result = connection.query(_from_file(insert, file.name), "Null")
        return Answer(b"", 0, result.rows_written(), result.elapsed())


def refuse_files(parsed: str) -> None:
    """Raises EngineError if a statement, as the parser wrote it, uses files in a way that no grant covers."""
    said = without_literals(parsed)
    if clause := _FILE_CLAUSE.search(said):
        raise engine_error(INTO_OUTFILE_NOT_ALLOWED, f"{clause.group().upper()} is not allowed here")
    if called := _UNGRANTED.search(said):
        raise engine_error(ACCESS_DENIED, f"the function {called.group(1)} is not allowed here")
    for engine in _ENGINE.findall(said):
        if not _KEPT_HERE.fullmatch(engine):
            raise engine_error(ACCESS_DENIED, f"the engine {engine} is not allowed here")


def _parsed(connection: Any, sql: str) -> str:
    """The statement as the engine's parser writes it. Raises RuntimeError where it is not exactly one."""
    # As a parameter, which is a field of a tab-separated line, so it may be as long as a statement.
    field = sql.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    try:
        parsed = connection.query(
            "SELECT formatQuerySingleLine({sql:String})", "TSVRaw", params={"sql": field}
        )
    except RuntimeError as error:
        raise RuntimeError(_OUR_OWN_STATEMENT.sub(" ", str(error))) from None
    return str(parsed.bytes().decode())


def _from_file(insert: Insert, path: str) -> str:
    """The insert with a file instead of its rows. SETTINGS come between the file and the FORMAT."""
    settings = re.search(r"\bSETTINGS\s+\w+\s*=[^()]*$", insert.sql, re.IGNORECASE)
    into = insert.sql[: settings.start()] if settings else insert.sql
    return (
        f"{into} FROM INFILE {_literal(path)} {settings.group() if settings else ''} FORMAT {insert.format}"
    )


def _open(path: Path) -> Any:
    path.mkdir(parents=True, exist_ok=True)
    _config(path).write_text(
        "<clickhouse>"
        f"<users_config>{escape(str(GRANTS))}</users_config>"
        f"<user_files_path>{escape(str(path / 'user_files'))}/</user_files_path>"
        "</clickhouse>\n"
    )
    connection = _connect(path)
    if b"SOURCES" in connection.query("SHOW GRANTS", "TSV").bytes():
        connection.close()
        raise OSError(f"the engine does not read {_config(path)}: a path with & or ? in it cannot be served")
    for name, value in ONE_INSERT_IS_ONE_BLOCK.items():
        connection.query(f"SET {name} = {value}", "Null")
    return connection


def _connect(path: Path) -> Any:
    """A session of the engine at that path; all sessions of a process share the one engine."""
    # Imported here: it is a library of 600 MB that no other process of ours needs.
    from chdb.state.sqlitelike import Connection

    return Connection(f"{path}?log-level=none&config-file={_config(path)}")


def _config(path: Path) -> Path:
    return path / "engine.xml"


def _prepare(connection: Any, context: Context) -> None:
    connection.query(f"USE {_identifier(context.database)}", "Null")
    for name, value in context.settings.items():
        connection.query(f"SET {_identifier(name)} = {_literal(value)}", "Null")


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _engine_error(error: RuntimeError) -> EngineError:
    found = re.search(r"Code: (\d+)\. .*", str(error), re.DOTALL)
    if found is None:
        return engine_error(UNKNOWN_EXCEPTION, str(error))
    return EngineError(int(found.group(1)), found.group())
