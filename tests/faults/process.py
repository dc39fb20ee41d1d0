"""The stack under test, as the driver holds it: its supervisor, its processes' ids, its ports."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from spendmeter.runtime.endpoints import Endpoints, StackDir
from spendmeter.runtime.stack_status import StackStatus, read_status
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.kafka.broker import node_names
from spendmeter_local.probes import says_ready
from tests.faults.disk import empty, fill, namespace
from tests.faults.stack import CONTROL, ROOT, SMALL_DISK, Spare, held_down, link_names, spare, spares
from tests.faults.tcp_proxy import Mode, set_mode

READY_WITHIN_SECONDS = 600
STOP_WITHIN_SECONDS = 90
NEW_PID_WITHIN_SECONDS = 60
LOOK_SECONDS = 0.02


class StackFailedError(RuntimeError):
    """The stack did not start, or a component did not come back; the message says which and why."""


class SpareProcess:
    """A process that has joined the stack, and will leave it in order."""

    def __init__(self, name: str, made: Spare, log: Path) -> None:
        self.name, self._url, self._log = name, made.metrics_url, log
        self._process = start_child(made.command, log=log, env={**os.environ, **made.env})

    @property
    def is_ready(self) -> bool:
        """Raises StackFailedError where it has ended."""
        if self._process.poll() is not None:
            raise StackFailedError(f"{self.name} ended with {self._process.poll()}; see {self._log}")
        return says_ready(self._url)

    def metric(self, name: str) -> float | None:
        """A gauge's value on its page; None while it serves none."""
        try:
            with urllib.request.urlopen(self._url, timeout=STOP_WITHIN_SECONDS) as page:
                lines = page.read().decode().splitlines()
        except (OSError, http.client.HTTPException):
            return None
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)

    def leave(self) -> int:
        """SIGTERM; returns how it ended. Raises StackFailedError where it does not."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise StackFailedError(f"{self.name} does not stop; see {self._log}") from None
        finally:
            kill_child(self._process)


class StackProcess:
    """`python -m tests.faults.stack` in a process of its own, which ends with this one."""

    def __init__(self, directory: Path, *, workers: int, gateways: int, nodes: int = 1) -> None:
        self.stack = StackDir(directory.absolute())
        self.nodes = node_names(nodes)
        """What Kafka's nodes are called."""
        self._log = directory / "stack.log"
        command = [sys.executable, "-m", "tests.faults.stack", "--dir", str(self.stack.path)]
        self._command = [*command, "--workers", str(workers), "--gateways", str(gateways)]
        self._command += ["--brokers", str(nodes)]
        self.has_small_disk = nodes > 1 and (prefix := namespace()) is not None
        """Whether a node has a disk that can be full."""
        if self.has_small_disk:
            self._command = [*(prefix or ()), *self._command, "--small-disk"]
        self._process: subprocess.Popen[bytes] | None = None
        self.kills: dict[str, int] = {}

    async def start(self) -> Endpoints:
        """Return once every component is ready. Raises StackFailedError."""
        self.stack.path.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = start_child(self._command, log=self._log, env=env)
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self.stack.endpoints.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StackFailedError(f"the stack did not start:\n{self._log.read_text()[-4000:]}")
            await asyncio.sleep(0.1)
        return self.endpoints()

    def stop(self) -> None:
        """Stop everything."""
        if self._process is not None and self._process.poll() is None:
            stop_child(self._process, grace_seconds=STOP_WITHIN_SECONDS)
            kill_child(self._process)

    def endpoints(self) -> Endpoints:
        return Endpoints.model_validate_json(self.stack.endpoints.read_text())

    def status(self) -> StackStatus:
        return read_status(self.stack)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """One node's disk takes nothing more."""
        assert self._process is not None, "the stack runs"
        directory = self.stack.data(SMALL_DISK)
        fill(self._process.pid, directory)
        try:
            yield
        finally:
            empty(self._process.pid, directory)

    def start_spare(self, target: str) -> SpareProcess:
        """Have one more process of that sort join. From the main thread."""
        name = spare(target)
        return SpareProcess(name, spares(self.stack)[name], self.stack.log(name))

    def is_ready(self, component: str) -> bool:
        return self.status().components[component].state == "ready"

    def port(self, name: str) -> int:
        ports: dict[str, int] = json.loads(self.stack.ports.read_text())
        return ports[name]

    def pid(self, component: str) -> int | None:
        """The component's process now; None while there is none."""
        return self.endpoints().pids.get(component)

    async def pid_other_than(self, component: str, former: int | None) -> int:
        """The component's process, once it has one that is not the former. Raises StackFailedError."""
        deadline = time.monotonic() + NEW_PID_WITHIN_SECONDS
        while (pid := self.pid(component)) is None or pid == former:
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise StackFailedError(f"{component} did not start again; see {self.stack.log(component)}")
            await asyncio.sleep(LOOK_SECONDS)
        return pid

    def kill(self, component: str, pid: int) -> None:
        """kill -9."""
        self.send(pid, signal.SIGKILL)
        self.kills[component] = self.kills.get(component, 0) + 1

    @staticmethod
    def send(pid: int, number: signal.Signals) -> None:
        """Send a signal to one of the stack's own processes; one that has just ended needs none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    @contextlib.contextmanager
    def held_down(self, *components: str) -> Iterator[None]:
        """What ends meanwhile does not start again."""
        files = [held_down(self.stack, component) for component in components]
        for file in files:
            file.touch()
        try:
            yield
        finally:
            for file in files:
                file.unlink()

    async def set_link(self, link: str, mode: Mode, milliseconds: int = 0) -> None:
        """Of a link to Kafka without a node's number: to every node."""
        for name in link_names(link, len(self.nodes)):
            await set_mode(self.port(CONTROL), name, mode, milliseconds)
