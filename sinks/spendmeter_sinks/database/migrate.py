"""The schema of history: numbered SQL files, each applied once, in order, and recorded.

Every statement is `… IF NOT EXISTS`, so an interrupted migration is simply applied again.
No file names a database: the connection does.

On a cluster, run this once per server against a database of `ENGINE = Replicated(…)`, after setting
`default_replica_path` and `default_replica_name` on the servers and replacing each table's engine by its
`Replicated…` form (ClickHouse Cloud does so by itself). The deduplication window is then
`replicated_deduplication_window`, which every replica shares, and the tokens mean the same.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from spendmeter.runtime.clickhouse import Client
from spendmeter.runtime.supported import clickhouse_warning

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"(\d{4})_[a-z_]+\.sql")
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    sha256 String COMMENT 'of the file as it was applied',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version
COMMENT 'Which files of sinks/clickhouse/schema this database has'
"""


class SchemaMismatch(Exception):
    """The database was made from other files than these; no statement was run."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """The statements, with comments; each ends with a semicolon at the end of a line."""
        for statement in re.split(r";[ \t]*(?:\n|$)", self.sql):
            if re.sub(r"(?m)^\s*--.*$", "", statement).strip():
                yield statement.strip()


def migrations() -> list[Migration]:
    """Every file of schema/, by number."""
    found = []
    for file in files("spendmeter_sinks.database").joinpath("schema").iterdir():
        named = _FILE_NAME.fullmatch(file.name)
        if named:
            found.append(Migration(int(named.group(1)), file.name, file.read_text()))
    return sorted(found, key=lambda m: m.version)


def pending(applied: dict[int, str], known: list[Migration]) -> list[Migration]:
    """The migrations left to apply; `applied` maps a version to the sha256 of its file.

    Raises:
        SchemaMismatch: a file was changed after it was applied, or the database is ahead of this code.
    """
    changed = [m.name for m in known if applied.get(m.version, m.sha256) != m.sha256]
    unknown = sorted(set(applied) - {m.version for m in known})
    if changed:
        raise SchemaMismatch(f"{', '.join(changed)}: changed after it was applied; add a new file instead")
    if unknown:
        raise SchemaMismatch(f"the database has migrations {unknown} that this version does not know")
    return [m for m in known if m.version not in applied]


def migrate(client: Client, database: str) -> list[str]:
    """Bring the database up to date, creating it if it is missing; returns the names applied now.

    Raises:
        SchemaMismatch: see `pending`.
        clickhouse_connect.driver.exceptions.Error: ClickHouse cannot be reached or refuses.
    """
    warning = clickhouse_warning(client.server_version)
    if warning:
        log.warning(warning)
    client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database
    client.command(_MIGRATIONS_TABLE)
    done = []
    for migration in pending(applied_migrations(client), migrations()):
        for statement in migration.statements():
            client.command(statement)
        client.insert(
            "schema_migrations",
            [[migration.version, migration.name, migration.sha256]],
            column_names=["version", "name", "sha256"],
        )
        log.info("applied %s to %s", migration.name, database)
        done.append(migration.name)
    return done


def applied_migrations(client: Client) -> dict[int, str]:
    """Version: sha256 of every migration that the client's database has."""
    rows = client.query("SELECT version, sha256 FROM schema_migrations FINAL").result_rows
    return {int(version): str(sha256) for version, sha256 in rows}
