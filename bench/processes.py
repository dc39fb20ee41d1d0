"""What a process and its children have used, read from Linux' /proc."""

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(session: int) -> float:
    """User and system time of every process of a session, those that have ended included.

    Each contender is started in a session of its own (spendmeter_local.children).
    """
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(stat)
        if fields and int(fields[3]) == session:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS_PER_SECOND


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def reset_peak(pid: int) -> None:
    """Let `peak_mib` of the process begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _fields(stat: Path) -> list[str] | None:
    """The fields after the command's name, which may hold spaces and brackets."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        # It ended while we were looking.
        return None
