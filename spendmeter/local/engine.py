"""The ClickHouse engine in this process (chDB), one call at a time on a thread of its own.

**One insert is one block**, whatever its number of rows: a block is what ClickHouse inserts whole or not
at all and what a deduplication token stands for. The engine's own default cuts at about a million rows or
256 MB, and clickhouse-connect sends blocks of its own (65,536 rows for rows of about 32 bytes). The limit
that is left is memory: an insert is held whole, so `MAX_BODY_BYTES` of the HTTP front bounds it.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

from spendmeter.local.statements import Insert, Query

MAX_WAITING_CALLS = 256
ANY_NUMBER = 1 << 40

ONE_INSERT_IS_ONE_BLOCK = {
    "async_insert": 0,  # else several inserts may share a block, and the answer comes before the rows
    "max_insert_threads": 1,
    "max_insert_block_size": ANY_NUMBER,
    "min_insert_block_size_rows": ANY_NUMBER,
    "min_insert_block_size_bytes": 0,
}

TOO_MANY_SIMULTANEOUS_QUERIES = 202  # ClickHouse's own error codes
UNKNOWN_EXCEPTION = 1002

T = TypeVar("T")


class EngineError(Exception):
    """The engine refused; `code` is ClickHouse's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Context:
    """What holds for one call only: its database, settings and query parameters, as their texts."""

    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave."""

    body: bytes
    read_rows: int
    written_rows: int
    elapsed_seconds: float


def engine_error(code: int, message: str) -> EngineError:
    """An error of ours in ClickHouse's words."""
    return EngineError(code, f"Code: {code}. DB::Exception: {message}")


class Engine:
    """ClickHouse at `path`. Opens on construction; call from one event loop, `close` once."""

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, "clickhouse-engine")
        self._waiting = 0
        self._connection = self._thread.submit(_open, path).result()
        self._spool = path / "spool"
        self._spool.mkdir(exist_ok=True)
        for left_by_a_crash in self._spool.iterdir():
            left_by_a_crash.unlink()

    async def query(self, query: Query, default_format: str, context: Context) -> Answer:
        """Run any statement. Raises EngineError."""
        return await self._call(lambda: self._query(query.sql, default_format, context), context)

    async def insert(self, insert: Insert, context: Context) -> Answer:
        """Insert rows as one block. Raises EngineError; then nothing of it was kept."""
        return await self._call(lambda: self._insert(insert), context)

    def close(self) -> None:
        """Finish what runs, then close the engine."""
        self._thread.submit(self._connection.close).result()
        self._thread.shutdown()

    async def _call(self, work: Callable[[], T], context: Context) -> T:
        if self._waiting >= MAX_WAITING_CALLS:
            raise engine_error(TOO_MANY_SIMULTANEOUS_QUERIES, f"{MAX_WAITING_CALLS} queries wait already")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, lambda: self._within(context, work))
        finally:
            self._waiting -= 1

    def _within(self, context: Context, work: Callable[[], T]) -> T:
        """Run `work` with the context's database and settings, and take them back afterwards."""
        try:
            self._run(f"USE {_identifier(context.database)}")
            for name, value in context.settings.items():
                self._run(f"SET {_identifier(name)} = {_literal(value)}")
            return work()
        except RuntimeError as error:
            raise _engine_error(error) from None
        finally:
            for name in context.settings:
                self._restore(name)

    def _restore(self, name: str) -> None:
        ours = ONE_INSERT_IS_ONE_BLOCK.get(name)
        try:
            self._run(f"SET {_identifier(name)} = {'DEFAULT' if ours is None else ours}")
        except RuntimeError as error:
            # The setting was never set if the engine does not know it: that was the call's own error.
            if _engine_error(error).code != 115:
                raise

    def _run(self, sql: str) -> None:
        self._connection.query(sql, "Null")

    def _query(self, sql: str, default_format: str, context: Context) -> Answer:
        result = self._connection.query(sql, default_format, params=dict(context.parameters))
        return Answer(result.bytes() or b"", result.rows_read(), result.rows_written(), result.elapsed())

    def _insert(self, insert: Insert) -> Answer:
        # From a file: chDB 4.4's streamed insert reports rows that the engine refused (a violated
        # constraint, say) as written, without an error.
        with NamedTemporaryFile(dir=self._spool, suffix=".rows") as file:
            file.write(insert.rows)
            file.flush()
            result = self._connection.query(_from_file(insert, file.name), "Null")
        return Answer(b"", 0, result.rows_written(), result.elapsed())


def _from_file(insert: Insert, path: str) -> str:
    """The insert with a file in the place of its rows. SETTINGS stand between the file and the FORMAT."""
    settings = re.search(r"\bSETTINGS\s+\w+\s*=[^()]*$", insert.sql, re.IGNORECASE)
    into = insert.sql[: settings.start()] if settings else insert.sql
    return (
        f"{into} FROM INFILE {_literal(path)} {settings.group() if settings else ''} FORMAT {insert.format}"
    )


def _open(path: Path) -> Any:
    # Imported where it is used: 600 MB of library that no other process of ours needs.
    from chdb.state.sqlitelike import Connection

    path.mkdir(parents=True, exist_ok=True)
    connection = Connection(f"{path}?log-level=none")
    for name, value in ONE_INSERT_IS_ONE_BLOCK.items():
        connection.query(f"SET {name} = {value}", "Null")
    return connection


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _engine_error(error: RuntimeError) -> EngineError:
    found = re.search(r"Code: (\d+)\. .*", str(error), re.DOTALL)
    if found is None:
        return engine_error(UNKNOWN_EXCEPTION, str(error))
    return EngineError(int(found.group(1)), found.group())
