"""Starting a process that never outlives the one that started it, and ending it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
MAX_LOG_BYTES = 20_000_000

# Loaded before any fork: between fork and exec only calls that need no lock are safe.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def start_child(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `command`, its output appended to `log`, its environment this one's plus `env`.

    Call it from the main thread only: Linux ends the child when the *thread* that started it ends.
    """
    parent = os.getpid()
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            # A group of its own: Ctrl-C in the terminal reaches only the supervisor, which stops the
            # components in order; and a component's own children end together with it.
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),
        )


def stop_child(child: subprocess.Popen[bytes], *, grace_seconds: float) -> bool:
    """Send the child SIGTERM, wait, then kill its whole group. True if it ended by itself within
    the grace.
    """
    child.terminate()
    try:
        child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        kill_child(child)
        return False
    _kill_group(child.pid)
    return True


def kill_child(child: subprocess.Popen[bytes]) -> None:
    """End the child and everything in its group at once."""
    _kill_group(child.pid)
    child.wait()


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """In the child, before exec: let Linux kill it when its parent dies.

    A supervisor killed with -9 can stop nobody. Without this its broker would hold ports, memory and the
    lock on the data, and the next `up` would fail. The setting survives exec. Other systems have no such
    call; there the next `up` says who still holds the port.
    """
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call above.
    if os.getppid() != parent:
        os._exit(1)


def rotate(log: Path) -> None:
    """Bound a log at two files of about `MAX_LOG_BYTES`; called before each process that writes to it."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
