"""The local stack, or a part of it, for one benchmark: `spendmeter up`, and `down` at the end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from spendmeter.runtime.endpoints import Endpoints, find_stack

_SPENDMETER = (sys.executable, "-c", "from spendmeter.cli.main import main; main()")


class DidNotStart(click.ClickException):
    """Something to be measured is not there; the message says why."""


@contextmanager
def local_stack(directory: Path, *options: str) -> Iterator[Endpoints]:
    """A stack in this directory, started with these options of `spendmeter up`. Raises DidNotStart."""
    where = ("--dir", str(directory))
    try:
        ended = subprocess.run(
            [*_SPENDMETER, "up", "--detach", *where, *options], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise DidNotStart(ended.stdout[-2000:] + ended.stderr[-2000:])
        yield find_stack(directory)
    finally:
        subprocess.run([*_SPENDMETER, "down", *where], capture_output=True, check=False)
