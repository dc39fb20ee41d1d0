"""News for requests that wait: something that a decision depends on has changed."""

import asyncio
import threading

from spendmeter_gateway.loops import complete

# Beyond it a request is decided at once rather than waiting.
MAX_WAITING = 10_000


class Notifier:
    """Wakes coroutines of any event loop from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def subscribe(self) -> "asyncio.Future[None] | None":
        """A future that the next news completes; subscribe before looking. None beyond MAX_WAITING."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                return None
            self._waiting.add(future)
        return future

    def unsubscribe(self, future: "asyncio.Future[None]") -> None:
        """The future is no longer awaited."""
        with self._lock:
            self._waiting.discard(future)

    def notify(self) -> None:
        """Complete every future that was subscribed until now."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            complete(future)
