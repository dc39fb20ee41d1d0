"""A stack's directory: a lock tells a running stack from what a crash left behind."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from spendmeter.runtime.endpoints import (
    AlreadyRunningError,
    Endpoints,
    StackDir,
    StackNotRunningError,
    find_stack,
    resolve_dir,
    write_endpoints,
)

ENDPOINTS = Endpoints(
    kafka_bootstrap="127.0.0.1:1",
    clickhouse_url="http://127.0.0.1:2",
    clickhouse_password=SecretStr("hunter2"),
    proxy_url="http://127.0.0.1:3",
    proxy_master_key="sk-secret",
    upstream_url="http://127.0.0.1:4",
    metrics={"stream": "http://127.0.0.1:5/metrics"},
    pids={"stream": 6},
)


@pytest.fixture
def stack(tmp_path: Path) -> StackDir:
    return StackDir(tmp_path)


def test_a_running_stack_is_found(stack: StackDir) -> None:
    with stack.hold():
        write_endpoints(stack, ENDPOINTS)
        assert find_stack(stack.path) == ENDPOINTS


def test_what_a_crashed_stack_left_behind_is_no_stack(stack: StackDir) -> None:
    with stack.hold():
        write_endpoints(stack, ENDPOINTS)
    assert stack.lock.exists()
    with pytest.raises(StackNotRunningError, match=rf"start one: spendmeter up --dir {stack.path}"):
        find_stack(stack.path)


def test_a_stack_that_still_starts_is_not_found_yet(stack: StackDir) -> None:
    with stack.hold(), pytest.raises(StackNotRunningError, match="not ready yet"):
        find_stack(stack.path)


def test_an_empty_directory_names_the_command_that_starts_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPENDMETER_DIR", raising=False)
    with pytest.raises(StackNotRunningError, match=r"start one: spendmeter up$"):
        find_stack()


def test_a_directory_has_one_supervisor(stack: StackDir) -> None:
    with stack.hold(), pytest.raises(AlreadyRunningError), stack.hold():
        pass


def test_the_option_is_stronger_than_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_DIR", str(tmp_path / "b"))
    assert resolve_dir(tmp_path / "a").path == tmp_path / "a"
    assert resolve_dir().path == tmp_path / "b"


def test_secrets_are_kept_and_readable_by_their_owner_only(stack: StackDir, tmp_path: Path) -> None:
    key, password = stack.master_key(), stack.clickhouse_password()
    assert key.startswith("sk-")
    assert (stack.master_key(), stack.clickhouse_password()) == (key, password)
    assert password != StackDir(tmp_path / "another").clickhouse_password()
    write_endpoints(stack, ENDPOINTS)
    for path in (stack.path / "master.key", stack.path / "clickhouse.password", stack.endpoints):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_password_of_clickhouse_is_in_the_file_and_in_nothing_that_is_printed(stack: StackDir) -> None:
    with stack.hold():
        write_endpoints(stack, ENDPOINTS)
        found = find_stack(stack.path)
    assert found.clickhouse_dsn == "http://default:hunter2@127.0.0.1:2"
    for printed in (found.model_dump_json(), repr(found), str(found)):
        assert "hunter2" not in printed
