"""Whether this process lives, and whether it does its work: for /healthz, /readyz and the gauge."""

import asyncio
import threading
import time
from collections.abc import Callable

TURN_WITHIN_SECONDS = 5.0
"""A loop that turns later than that is stuck."""
KAFKA_SILENT_SECONDS = 30.0


class Readiness:
    """One per process. It is set by the process's loop and read by the threads of its metrics page."""

    def __init__(self) -> None:
        self._is_set = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last_answer: Callable[[], float | None] | None = None

    def set(self, ready: int) -> None:
        """1 once the process does its work, 0 before and while it cannot."""
        self._is_set = bool(ready)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that does the work: the process lives as long as it turns."""
        self._loop = loop

    def needs_kafka(self, last_answer: Callable[[], float | None]) -> None:
        """Not ready while Kafka is silent. `last_answer`: when it last answered, in monotonic seconds."""
        self._last_answer = last_answer

    def why_not_ready(self) -> str:
        """A sentence; empty if the process does its work."""
        if not self._is_set:
            return "not ready: the log says what this process waits for"
        answered = self._last_answer() if self._last_answer is not None else None
        if answered is not None and time.monotonic() - answered > KAFKA_SILENT_SECONDS:
            return f"not ready: Kafka has not answered for {time.monotonic() - answered:.0f} s"
        return ""

    def why_not_alive(self) -> str:
        """A sentence; empty if the loop turns. Waits TURN_WITHIN_SECONDS at most; not for the loop itself."""
        if self._loop is None:
            # The process is about to start it.
            return ""
        has_turned = threading.Event()
        try:
            self._loop.call_soon_threadsafe(has_turned.set)
        except RuntimeError:
            return "stopped: the loop of this process has ended"
        if has_turned.wait(TURN_WITHIN_SECONDS):
            return ""
        return f"stuck: the loop of this process has not turned for {TURN_WITHIN_SECONDS:g} s"
