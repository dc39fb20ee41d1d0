"""Order, restarts and failures of supervised components; tiny ones, since nothing here is about theirs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spendmeter.runtime.endpoints import StackDir, find_stack
from spendmeter.runtime.stack_status import read_status
from spendmeter_local.probes import wait_until
from tests.patience import WITHIN_SECONDS

# A component that writes down when it starts and stops, and is ready once it has.
COMPONENT = """
import pathlib, signal, sys
journal, name = pathlib.Path(sys.argv[1]), sys.argv[2]
def note(what):
    with journal.open("a") as file:
        file.write(f"{what} {name}\\n")
def stop(*_):
    note("stop")
    raise SystemExit
signal.signal(signal.SIGTERM, stop)
note("start")
while True:
    signal.pause()
"""

# A supervisor of the stages that its arguments give: [[name, name], [name]].
SUPERVISOR = """
import json, pathlib, sys
from spendmeter_local.stack.components import StackComponent, Declaration, Step
from spendmeter.runtime.endpoints import StackDir
from spendmeter_local.stack.supervisor import Supervisor
directory, component, stages = pathlib.Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
journal = directory / "journal"
def one(name):
    if name == "fails":
        code = "print('no such file: prices.json'); raise SystemExit(2)"
    elif name == "hangs":
        code = "import time; print('connecting'); time.sleep(1000)"
    else:
        code = component
    command = [sys.executable, "-u", "-c", code, str(journal), name]
    if name == "step":
        return Step(name, [sys.executable, "-c", f"open({str(journal)!r}, 'a').write('did step\\\\n')"])
    def is_ready():
        return journal.exists() and f"start {name}\\n" in journal.read_text()
    within = 2 if name == "hangs" else 120
    return StackComponent(name, lambda: command, is_ready, ready_within_seconds=within, grace_seconds=60)
declaration = Declaration([[one(n) for n in stage] for stage in stages], "k", "c", "secret", "u", "p", "sk-1")
say = lambda line: print(line, flush=True)
raise SystemExit(Supervisor(StackDir(directory), declaration, say).run())
"""

Start = Callable[[list[list[str]]], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start_(stages: list[list[str]]) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), COMPONENT, json.dumps(stages)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start_
    for process in started:
        process.kill()
        process.communicate()


def journal(directory: Path) -> list[str]:
    path = directory / "journal"
    return path.read_text().splitlines() if path.exists() else []


def is_ready(directory: Path) -> bool:
    return read_status(StackDir(directory)).ready


def until_ready(directory: Path, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: is_ready(directory) or process.poll() is not None, timeout_seconds=WITHIN_SECONDS)
    assert is_ready(directory)


def is_gone(pid: int) -> bool:
    """It has ended, whether or not somebody has taken note of it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_stages_start_in_order_and_stop_in_reverse(tmp_path: Path, start: Start) -> None:
    process = start([["first"], ["step"], ["second"], ["third"]])
    until_ready(tmp_path, process)
    assert set(find_stack(tmp_path).pids) == {"first", "second", "third", "supervisor"}
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert process.returncode == 0
    assert journal(tmp_path) == [
        "start first",
        "did step",
        "start second",
        "start third",
        "stop third",
        "stop second",
        "stop first",
    ]
    assert "ready            in" in said
    assert not StackDir(tmp_path).endpoints.exists()


def test_a_component_that_dies_starts_again_and_that_is_said(tmp_path: Path, start: Start) -> None:
    process = start([["first", "second"]])
    until_ready(tmp_path, process)
    before = find_stack(tmp_path).pids
    os.kill(before["first"], signal.SIGKILL)

    def is_back() -> bool:
        first = read_status(StackDir(tmp_path)).components["first"]
        return first.state == "ready" and first.restarts == 1 and first.last_exit == "killed by SIGKILL"

    assert wait_until(is_back, timeout_seconds=WITHIN_SECONDS)
    after = find_stack(tmp_path).pids
    assert after["first"] != before["first"]
    assert {**after, "first": 0} == {**before, "first": 0}
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert "first            ended (killed by SIGKILL), starts again in 0.2 s" in said
    log = StackDir(tmp_path).log("supervisor").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in log] == said.splitlines()


def test_no_component_outlives_a_killed_supervisor(tmp_path: Path, start: Start) -> None:
    process = start([["first", "second"]])
    until_ready(tmp_path, process)
    pids = find_stack(tmp_path).pids
    process.kill()
    assert wait_until(lambda: all(map(is_gone, pids.values())), timeout_seconds=WITHIN_SECONDS)
    assert StackDir(tmp_path).endpoints.exists()
    assert not read_status(StackDir(tmp_path)).running
    until_ready(tmp_path, start([["first", "second"]]))


@pytest.mark.parametrize(
    ("name", "problem", "line"),
    [
        ("fails", "did not start: exit 2", "no such file: prices.json"),
        ("hangs", "is not ready after 2 s", "connecting"),
    ],
)
def test_one_that_never_gets_ready_is_named_with_its_log_and_everything_stops(
    tmp_path: Path, start: Start, name: str, problem: str, line: str
) -> None:
    process = start([["first"], [name]])
    said, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert process.returncode == 1
    assert f"{name:<16} {problem}; the end of {tmp_path}/logs/{name}.log:\n    {line}\n" in said
    assert journal(tmp_path) == ["start first", "stop first"]
    assert not read_status(StackDir(tmp_path)).running
