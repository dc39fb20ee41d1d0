"""The key store: hashes only, there again after a restart."""

import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from spendmeter_local.keys.store import KeyRow, KeyStore, hash_key
from tests.builders import NOON

KEY = "sk-0123456789abcdef"


def row(key: str = KEY, **fields: object) -> KeyRow:
    defaults = {"token": hash_key(key), "key_name": "sk-...cdef", "created_at": NOON, "updated_at": NOON}
    return KeyRow.model_validate(defaults | fields)


def test_a_key_is_there_again_after_a_restart(tmp_path: Path) -> None:
    kept = row(key_alias="alice", metadata={"cost_center": 7}, models=("gpt-4o",), budget_id="key:alice")
    first = KeyStore(tmp_path / "keys.sqlite")
    first.put(kept)
    first.close()

    again = KeyStore(tmp_path / "keys.sqlite")

    assert again.get(hash_key(KEY)) == kept
    assert again.of_alias("alice") == kept


def test_a_removed_key_stays_removed(tmp_path: Path) -> None:
    first = KeyStore(tmp_path / "keys.sqlite")
    first.put(row())
    first.remove(hash_key(KEY))
    first.close()

    assert list(KeyStore(tmp_path / "keys.sqlite")) == []


def test_the_key_itself_is_nowhere_on_disk(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.sqlite")
    store.put(row(key_alias="alice"))
    store.close()

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert b"alice" in written
    assert KEY.encode() not in written
    assert KEY.removeprefix("sk-").encode() not in written


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys.sqlite").close()

    assert stat.S_IMODE((tmp_path / "keys.sqlite").stat().st_mode) == 0o600


def test_two_keys_cannot_have_one_alias(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.sqlite")
    store.put(row(key_alias="alice"))

    with pytest.raises(sqlite3.IntegrityError):
        store.put(row("sk-another-0123456789", key_alias="alice"))

    assert len(list(store)) == 1


def test_a_key_ends_at_its_expiry_and_not_before() -> None:
    expiring = row(expires=NOON)

    assert not expiring.expired(NOON - timedelta(microseconds=1))
    assert expiring.expired(NOON)
    assert not row().expired(NOON)


def test_a_hash_is_its_own_hash() -> None:
    assert hash_key(hash_key(KEY)) == hash_key(KEY)
