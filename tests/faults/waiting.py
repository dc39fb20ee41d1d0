"""Waiting for a condition on an event loop, with a bound."""

import asyncio
import time
from collections.abc import Callable

LOOK_SECONDS = 0.1


async def until(condition: Callable[[], bool], timeout_seconds: float, what: str) -> None:
    """Return once the condition holds. Raises TimeoutError, which says what did not come."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        if condition():
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_seconds:.0f} s: {what}")
        await asyncio.sleep(LOOK_SECONDS)
