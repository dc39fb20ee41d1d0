"""A disk of a node's own, which can be full: a file system in memory, in a name space of the stack's own.

It goes away with the stack's last process, however that ends. Where the system lets us mount none (no root,
and no user name spaces), the fault is left out, and that is said.
"""

import os
import subprocess
from functools import cache
from pathlib import Path

SIZE_BYTES = 3 * 1024**3
TIMEOUT_SECONDS = 20
FILLS_AT_MOST = 50


@cache
def namespace() -> tuple[str, ...] | None:
    """The command before one that may mount; None where we must not."""
    user = () if os.getuid() == 0 else ("--map-root-user",)
    command = ("unshare", *user, "--mount")
    try:
        tried = (*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
        subprocess.run(tried, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return command


def mount(directory: Path) -> None:
    """Put an empty disk there. In a name space of one's own."""
    directory.mkdir(parents=True, exist_ok=True)
    options = f"size={SIZE_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], check=True)


def fill(pid: int, directory: Path) -> None:
    """From now on the disk that the process sees there takes nothing more."""
    for attempt in range(FILLS_AT_MOST):
        disk = os.statvfs(f"/proc/{pid}/root{directory}")
        try:
            _resize(pid, directory, (disk.f_blocks - disk.f_bfree) * disk.f_frsize)
            return
        except subprocess.CalledProcessError:
            # The broker has written since we asked how full it is, and no disk shrinks below its files.
            if attempt == FILLS_AT_MOST - 1:
                raise


def empty(pid: int, directory: Path) -> None:
    """It has room again."""
    _resize(pid, directory, SIZE_BYTES)


def _resize(pid: int, directory: Path, size_bytes: int) -> None:
    user = () if os.getuid() == 0 else ("--user", "--preserve-credentials")
    remount = ("mount", "-o", f"remount,size={size_bytes}", str(directory))
    command = ("nsenter", "--target", str(pid), *user, "--mount", *remount)
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
