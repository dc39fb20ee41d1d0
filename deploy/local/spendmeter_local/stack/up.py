"""Starts a stack, in this process or in one that outlives the terminal."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from spendmeter.runtime.endpoints import (
    Endpoints,
    StackDir,
    StackNotRunningError,
    find_stack,
)
from spendmeter_local.probes import wait_until
from spendmeter_local.stack.components import Declaration, declare

OTHERS_START_SECONDS = 300


class UpFailedError(RuntimeError):
    """The stack did not start; the cause has already been printed."""


def declared(
    stack: StackDir,
    workers: int,
    nodes: int | None,
    proxy_config: Path,
    only: tuple[str, ...],
    alert_routes: Path | None = None,
) -> Declaration:
    """The stack with these options.

    Raises WrongNodesError, and ValueError for a name in `only` that is no component.
    """
    whole = declare(stack, workers=workers, nodes=nodes, proxy_config=proxy_config, alert_routes=alert_routes)
    if not only:
        return whole
    names = [item.name for stage in whole.stages for item in stage]
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(f"no component is called {', '.join(unknown)}; there are {', '.join(names)}")
    return whole.only(only)


def wait_for_running(stack: StackDir) -> Endpoints | None:
    """The endpoints of a stack that already runs here, once it is ready; None if none runs."""
    found: list[Endpoints] = []

    def is_up() -> bool:
        try:
            found.append(find_stack(stack.path))
        except StackNotRunningError:
            return stack.supervisor_pid() is None
        return True

    wait_until(is_up, timeout_seconds=OTHERS_START_SECONDS)
    return found[0] if found else None


def start_detached(arguments: list[str], stack: StackDir, say: Callable[[str], None]) -> Endpoints:
    """Start a supervisor that outlives this process; print its output until it is ready.

    Raises UpFailedError.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __package__, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None  # because of stdout=PIPE
    try:
        # The supervisor closes its end once it is ready, or when it ends.
        for line in process.stdout:
            say(line.rstrip("\n"))
    except KeyboardInterrupt:
        process.terminate()
        for line in process.stdout:
            say(line.rstrip("\n"))
        process.wait()
        raise
    finally:
        process.stdout.close()
    # It may not be ours, if another `up` was a moment earlier.
    if endpoints := wait_for_running(stack):
        return endpoints
    raise UpFailedError(f"the stack did not come up (exit {process.wait()})")
