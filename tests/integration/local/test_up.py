"""`spendmeter up`, `status` and `down` on the real engine and the fake upstream."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from spendmeter.runtime.endpoints import StackDir, find_stack
from spendmeter.runtime.stack_status import read_status
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

COMMANDS = "from spendmeter.cli.entry import main; main()"


def run(command: str, directory: Path, *options: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, command, "--dir", str(directory), *options],
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def up(directory: Path) -> Any:
    options = ("--detach", "--json", "--only", "clickhouse", "--only", "upstream")
    return json.loads(run("up", directory, *options).stdout)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    run("down", tmp_path)


def test_data_stays_through_a_killed_component_a_killed_supervisor_and_down(directory: Path) -> None:
    started = up(directory)
    assert up(directory) == started
    with clickhouse_connect.get_client(dsn=find_stack(directory).clickhouse_dsn) as client:
        client.command("CREATE DATABASE mine")
        client.command("CREATE TABLE mine.kept (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.insert("mine.kept", [[1], [2], [3]], ["a"])

    os.kill(started["pids"]["clickhouse"], signal.SIGKILL)

    def is_back() -> bool:
        component = read_status(StackDir(directory)).components["clickhouse"]
        return component.restarts == 1 and component.state == "ready"

    assert wait_until(is_back, timeout_seconds=WITHIN_SECONDS)
    # Something is missing: Kafka was not started.
    said = run("status", directory, expect=1).stdout
    assert "killed by SIGKILL" in said
    assert find_stack(directory).pids["clickhouse"] != started["pids"]["clickhouse"]

    os.kill(started["pids"]["supervisor"], signal.SIGKILL)
    assert wait_until(lambda: not read_status(StackDir(directory)).running, timeout_seconds=WITHIN_SECONDS)
    again = up(directory)
    assert {**again, "pids": None} == {**started, "pids": None}
    with clickhouse_connect.get_client(dsn=find_stack(directory).clickhouse_dsn) as client:
        assert client.query("SELECT sum(a) FROM mine.kept").result_rows == [(6,)]

    assert "the data is kept" in run("down", directory).stderr
    assert json.loads(run("status", directory, "--json", expect=3).stdout)["running"] is False
    up(directory)
    with clickhouse_connect.get_client(dsn=find_stack(directory).clickhouse_dsn) as client:
        assert client.query("SELECT sum(a) FROM mine.kept").result_rows == [(6,)]


def test_nothing_to_stop_is_no_error(directory: Path) -> None:
    assert f"nothing runs in {directory}" in run("down", directory).stderr


def test_a_component_that_does_not_exist_is_refused_before_anything_starts(directory: Path) -> None:
    said = run("up", directory, "--only", "zookeeper", expect=2).stderr
    assert "no component is called zookeeper; there are kafka, clickhouse" in said
    assert not read_status(StackDir(directory)).running


def test_the_password_of_clickhouse_is_printed_by_nothing(directory: Path) -> None:
    printed = [run("up", directory, "--detach", "--only", "clickhouse"), run("up", directory, "--json")]
    printed += [run("up", directory)]
    printed += [run("status", directory, *options, expect=1) for options in ((), ("--json",))]
    stack = StackDir(directory)
    password = stack.clickhouse_password()
    assert find_stack(directory).clickhouse_password.get_secret_value() == password
    said = [done.stdout + done.stderr for done in printed]
    said += [file.read_text() for file in (directory / "logs").iterdir()]
    said += [path.read_text() for path in (stack.status, stack.ports)]
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "spendmeter_local.clickhouse" in commands
    assert not [text for text in (*said, commands) if password in text]


def test_a_cluster_stays_one_and_is_not_taken_for_a_lone_broker(directory: Path) -> None:
    options = ("--detach", "--json", "--only", "upstream")
    first = json.loads(run("up", directory, "--brokers", "3", *options).stdout)
    assert len(first["kafka_bootstrap"].split(",")) == 3
    run("down", directory)
    again = json.loads(run("up", directory, *options).stdout)
    assert again["kafka_bootstrap"] == first["kafka_bootstrap"]
    run("down", directory)
    said = run("up", directory, "--brokers", "1", *options, expect=2).stderr
    assert (
        f"the data in {directory} belongs to 3 Kafka nodes, which cannot change: start it with --brokers 3"
        in said
    )
    assert not read_status(StackDir(directory)).running


def test_routes_that_cannot_work_are_refused_before_anything_starts(directory: Path) -> None:
    routes = directory / "alerts.yaml"
    routes.write_text("routes:\n  - {name: a, to: {apprise: {url_env: NOT_SET_ANYWHERE}}}\n")

    said = run("up", directory, "--alerts", str(routes), "--only", "kafka", expect=2).stderr

    assert said.startswith(f"{routes}:2: to.apprise.url_env: NOT_SET_ANYWHERE is not set")
    assert not read_status(StackDir(directory)).running


def test_the_stack_relays_alerts_where_a_file_of_routes_says_so(directory: Path) -> None:
    routes = directory / "alerts.yaml"
    routes.write_text("routes:\n  - {name: a, to: {webhook: {url: 'http://127.0.0.1:9/'}}}\n")
    only = [part for name in ("kafka", "topics", "alerts-relay") for part in ("--only", name)]

    started = json.loads(run("up", directory, "--detach", "--json", "--alerts", str(routes), *only).stdout)

    assert set(started["pids"]) == {"supervisor", "kafka", "alerts-relay"}
    assert read_status(StackDir(directory)).components["alerts-relay"].state == "ready"
