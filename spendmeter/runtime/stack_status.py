"""The supervisor's status of its components, in a file for `spendmeter status`."""

from typing import Literal

from pydantic import BaseModel

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir

State = Literal["starting", "ready", "restarting", "stopped"]


class ComponentStatus(BaseModel):
    """The present status of a component."""

    state: State
    pid: int | None
    restarts: int
    since: float
    """When it entered this state, in seconds of the Unix epoch."""
    last_exit: str | None
    """How it ended the last time, as text."""
    log: str


class StackStatus(BaseModel):
    """The whole stack."""

    running: bool
    ready: bool
    supervisor_pid: int | None
    components: dict[str, ComponentStatus]


def write_status(stack: StackDir, status: StackStatus) -> None:
    """Write the status, replacing the previous one."""
    write_atomically(stack.status, status.model_dump_json(indent=2) + "\n")


def read_status(stack: StackDir) -> StackStatus:
    """The status of this directory; one that a dead supervisor left behind is ignored."""
    pid = stack.supervisor_pid()
    if pid is None or not stack.status.exists():
        return StackStatus(running=pid is not None, ready=False, supervisor_pid=pid, components={})
    return StackStatus.model_validate_json(stack.status.read_text())
