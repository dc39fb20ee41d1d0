"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float, every_seconds: float = 0.05) -> bool:
    """True as soon as `condition` is, False if it was not within the timeout."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_seconds)
    return True
