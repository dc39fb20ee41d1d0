"""Tests beside each other: `pytest -n 2` gives each worker one lane after another.

A lane shares a broker, an engine or a proxy: the tests of one folder. Where none is started, each file
is a lane. Those come last: whichever worker is free takes the next.
"""

import os
from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

from spendmeter_local import ports

STARTS_NOTHING = ("tests/unit/", "tests/property/", "tests/simulation/")


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out lanes, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def lane_of(nodeid: str) -> str:
    """Which tests go to the worker that this one goes to."""
    file = nodeid.partition("::")[0]
    return file if file.startswith(STARTS_NOTHING) else PurePosixPath(file).parent.as_posix()


def sort_lanes(items: list[pytest.Item]) -> None:
    """Small lanes last, so that no worker is left with a long one."""
    items.sort(key=lambda item: item.nodeid.startswith(STARTS_NOTHING))


def keep_ports_apart() -> None:
    """Each worker picks from ports of its own: one is free until its server listens, for others, too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        ports.CANDIDATES = ports.CANDIDATES[number::workers]
