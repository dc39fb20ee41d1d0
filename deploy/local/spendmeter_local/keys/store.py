"""The virtual keys of the local proxy: hashes only, in one SQLite file, in memory for the request path."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from spendmeter.values.times import UtcTime

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    token TEXT PRIMARY KEY,
    key_alias TEXT UNIQUE,
    row TEXT NOT NULL
) WITHOUT ROWID
"""


def hash_key(key: str) -> str:
    """The hash that stands for a key everywhere except with its owner; this is LiteLLM's rule.

    A text that does not begin with `sk-` counts as a hash already.
    """
    return hashlib.sha256(key.encode()).hexdigest() if key.startswith("sk-") else key


class KeyRow(BaseModel):
    """One virtual key, with LiteLLM's field names. Its limit is in its budget, not here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: str
    """SHA-256 of the key."""
    key_name: str
    """How a person can recognise it: `sk-...` and its last four characters."""
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    project_id: str | None = None
    metadata: dict[str, Any] = {}
    models: tuple[str, ...] = ()
    """The models it may call; empty for all."""
    max_parallel_requests: int | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    blocked: bool | None = None
    budget_id: str | None = None
    budget_duration: str | None = None
    expires: UtcTime | None = None
    created_by: str | None = None
    created_at: UtcTime
    updated_at: UtcTime

    def expired(self, now: datetime) -> bool:
        """Whether it no longer gives access."""
        return self.expires is not None and self.expires <= now


class KeyStore:
    """Every key of one proxy process. A change is on disk before the method returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Metadata may name people, so the file is its owner's from the first byte.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA synchronous=FULL")
        self._file.execute(_SCHEMA)
        rows = [KeyRow.model_validate_json(row) for (row,) in self._file.execute("SELECT row FROM keys")]
        self._rows = {row.token: row for row in rows}

    def __iter__(self) -> Iterator[KeyRow]:
        return iter(self._rows.values())

    def get(self, token: str) -> KeyRow | None:
        """The key of that hash."""
        return self._rows.get(token)

    def of_alias(self, key_alias: str) -> KeyRow | None:
        """The key of that alias."""
        return next((row for row in self if row.key_alias == key_alias), None)

    def put(self, row: KeyRow) -> None:
        """Store a new or changed key. Raises sqlite3.IntegrityError if another key has its alias."""
        self._file.execute(
            "INSERT INTO keys VALUES (?, ?, ?)"
            " ON CONFLICT (token) DO UPDATE SET key_alias = excluded.key_alias, row = excluded.row",
            (row.token, row.key_alias, row.model_dump_json()),
        )
        self._rows[row.token] = row

    def remove(self, token: str) -> None:
        """Delete a key; nothing happens if it does not exist."""
        self._file.execute("DELETE FROM keys WHERE token = ?", (token,))
        self._rows.pop(token, None)

    def close(self) -> None:
        self._file.close()
