"""One component under supervision: its process, its readiness, and its next start."""

import signal
import subprocess
import time
from dataclasses import dataclass

from spendmeter.runtime.endpoints import StackDir
from spendmeter.runtime.stack_status import ComponentStatus, State
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.stack.components import StackComponent

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 15.0
STABLE_AFTER_SECONDS = 10.0
"""After being ready for this long, a component that dies restarts without backoff."""


@dataclass(slots=True)
class SupervisedProcess:
    """Changes only through its methods, which the supervisor's single thread calls."""

    component: StackComponent
    stack: StackDir
    process: subprocess.Popen[bytes] | None = None
    state: State = "stopped"
    since: float = 0.0
    restarts: int = 0
    last_exit: str | None = None
    exit_code: int | None = None
    backoff_seconds: float = FIRST_BACKOFF_SECONDS
    start_again_at: float = 0.0

    @property
    def name(self) -> str:
        return self.component.name

    def start(self) -> None:
        """Start the process. Passes on what `command` raises."""
        command = self.component.command()
        self.process = start_child(command, log=self.stack.log(self.name), env=self.component.env)
        self._enter("restarting" if self.restarts else "starting")

    def notice_exit(self) -> bool:
        """Whether the process has ended since the last check; if so, schedules its restart."""
        if self.process is None or (code := self.process.poll()) is None:
            return False
        kill_child(self.process)  # anything left in its group
        if self.state == "ready" and time.time() - self.since >= STABLE_AFTER_SECONDS:
            self.backoff_seconds = FIRST_BACKOFF_SECONDS
        self.exit_code, self.last_exit = code, render_exit_code(code)
        self.process = None
        self.start_again_at = time.monotonic() + self.backoff_seconds
        self.backoff_seconds = min(2 * self.backoff_seconds, MAX_BACKOFF_SECONDS)
        self._enter("restarting")
        return True

    def start_again_if_due(self) -> bool:
        """Start an ended process once its backoff is over. True if it was started."""
        if self.process is not None or self.state != "restarting" or time.monotonic() < self.start_again_at:
            return False
        self.restarts += 1
        self.start()
        return True

    def notice_ready(self) -> bool:
        """Whether it has become ready since the last check."""
        if self.process is None or self.state == "ready" or not self.component.is_ready():
            return False
        self._enter("ready")
        return True

    def ask_to_stop(self) -> None:
        """Send the signal; `finish_stopping` waits."""
        if self.process is not None:
            self.process.terminate()

    def finish_stopping(self, *, at_once: bool = False) -> bool:
        """Wait for the end within the grace, then kill. True if it ended by itself."""
        process, self.process = self.process, None
        self._enter("stopped")
        if process is None:
            return True
        return stop_child(process, grace_seconds=0 if at_once else self.component.grace_seconds)

    def status(self) -> ComponentStatus:
        return ComponentStatus(
            state=self.state,
            pid=self.process.pid if self.process else None,
            restarts=self.restarts,
            since=self.since,
            last_exit=self.last_exit,
            log=str(self.stack.log(self.name)),
        )

    def _enter(self, state: State) -> None:
        self.state, self.since = state, time.time()


def render_exit_code(code: int) -> str:
    """`exit 1`, or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
