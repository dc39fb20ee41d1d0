"""The stack under test, as the driver holds it: its supervisor, its processes' ids, its ports."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from spendmeter.local.children import kill_child, start_child, stop_child
from spendmeter.local.endpoints import Endpoints, StackDir
from spendmeter.local.status import StackStatus, read_status
from tests.faults.stack import CONTROL, ROOT
from tests.faults.tcp_proxy import Mode, set_mode

READY_WITHIN_SECONDS = 300
STOP_WITHIN_SECONDS = 90
NEW_PID_WITHIN_SECONDS = 60
LOOK_SECONDS = 0.02


class StackFailedError(RuntimeError):
    """The stack did not start, or a component did not come back; the message says which and why."""


class StackProcess:
    """`python -m tests.faults.stack` in a process of its own, which ends with this one."""

    def __init__(self, directory: Path, *, workers: int, gateways: int) -> None:
        self.stack = StackDir(directory.absolute())
        self._log = directory / "stack.log"
        command = [sys.executable, "-m", "tests.faults.stack", "--dir", str(self.stack.path)]
        self._command = [*command, "--workers", str(workers), "--gateways", str(gateways)]
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

    async def set_link(self, link: str, mode: Mode, milliseconds: int = 0) -> None:
        await set_mode(self.port(CONTROL), link, mode, milliseconds)
