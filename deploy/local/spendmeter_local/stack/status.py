"""What the supervisor says of its components: kept in a file for `spendmeter status`."""

from typing import Literal

from pydantic import BaseModel

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir

State = Literal["starting", "ready", "restarting", "stopped"]


class ComponentStatus(BaseModel):
    """One component now."""

    state: State
    pid: int | None
    restarts: int
    since: float
    """When it entered this state, in seconds of the Unix epoch."""
    last_exit: str | None
    """How it ended the last time, in words."""
    log: str


class StackStatus(BaseModel):
    """The whole stack."""

    running: bool
    ready: bool
    supervisor_pid: int | None
    components: dict[str, ComponentStatus]


def write_status(stack: StackDir, status: StackStatus) -> None:
    """Publish, replacing what was said before."""
    write_atomically(stack.status, status.model_dump_json(indent=2) + "\n")


def read_status(stack: StackDir) -> StackStatus:
    """What runs in this directory; what a dead supervisor left behind counts for nothing."""
    pid = stack.supervisor_pid()
    if pid is None or not stack.status.exists():
        return StackStatus(running=pid is not None, ready=False, supervisor_pid=pid, components={})
    return StackStatus.model_validate_json(stack.status.read_text())
