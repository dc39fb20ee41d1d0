"""The local ClickHouse with the engine of chDB 3: its connection made to look like chDB 4's.

`python -m tests.versions.earlier_engine --path DIR --port N`, with chDB 3 first on the path.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from spendmeter_local.clickhouse import engine
from spendmeter_local.clickhouse.__main__ import main
from spendmeter_local.clickhouse.statements import Insert, Query, read_statement

_READONLY = "SET readonly = "
_from_file_as_it_is = engine._from_file


class _Result:
    """What a call gave, with the number of rows it wrote."""

    def __init__(self, result: Any, written: int) -> None:
        self._result, self._written = result, written

    def bytes(self) -> Any:
        return self._result.bytes()

    def rows_read(self) -> Any:
        return self._result.rows_read()

    def elapsed(self) -> Any:
        return self._result.elapsed()

    def rows_written(self) -> int:
        return self._written


class _Connection:
    """Query parameters and counts of written rows, neither of which chDB 3 has."""

    def __init__(self, path: str) -> None:
        # Not through chdb.state: that needs pyarrow.
        self._connection = import_module("chdb._chdb").connect(path)
        self.close = self._connection.close

    def query(self, sql: str, output_format: str, params: Mapping[str, str] | None = None) -> _Result:
        for name, value in (params or {}).items():
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            self._connection.query(f"SET param_{name} = '{quoted}'", "Null")
        before = self._inserted_rows()
        result = self._connection.query(sql, output_format)
        return _Result(result, self._inserted_rows() - before)

    def _inserted_rows(self) -> int:
        # One call at a time uses the engine.
        counted = self._connection.query(
            "SELECT sum(value) FROM system.events WHERE event = 'InsertedRows'", "TSV"
        )
        return int(counted.bytes())


class _ReadingSession:
    """Sessions of their own, which chDB 3 has not either: settings are taken back, and writing is refused."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._names: list[str] = []
        self._is_readonly = False

    def query(self, sql: str, output_format: str, params: Mapping[str, str] | None = None) -> _Result:
        if sql.startswith(_READONLY):
            # Of this, the one session there is would never be rid again.
            self._is_readonly = True
            return self._connection.query("SELECT 1", output_format)
        statement = read_statement(sql.encode())
        if isinstance(statement, Query) and statement.verb == "SET":
            self._names.append(sql.split()[1])
        elif self._is_readonly and not (isinstance(statement, Query) and statement.returns_rows):
            raise RuntimeError("Code: 164. DB::Exception: Cannot execute query in readonly mode. (READONLY)")
        return self._connection.query(sql, output_format, params)

    def close(self) -> None:
        for name in self._names:
            self._connection.query(f"SET {name} = DEFAULT", "Null")


_opened: list[_Connection] = []


def _connect(path: Path) -> _Connection | _ReadingSession:
    if _opened:
        return _ReadingSession(_opened[0])
    _opened.append(_Connection(f"{path}?log-level=none&config-file={engine._config(path)}"))
    return _opened[0]


def _from_file(insert: Insert, path: str) -> str:
    """Values in the statement itself: from a file this engine takes them for rows of all columns."""
    if insert.format == "Values":
        return f"{insert.sql} VALUES {insert.rows.decode()}"
    return _from_file_as_it_is(insert, path)


if __name__ == "__main__":
    vars(engine).update(_connect=_connect, _from_file=_from_file)
    main()
