"""Event loops of other threads: how to call one, complete one of its futures, and wake who waits there."""

import asyncio
import threading
from collections.abc import Callable

# Beyond this number a request is decided at once instead of waiting.
MAX_WAITING = 10_000


def complete(future: "asyncio.Future[None]") -> None:
    """Complete a future of any loop, from any thread; a future that is done stays unchanged."""
    call_soon(future.get_loop(), _set, future)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Call a function on a loop, from any thread; nothing happens if the loop is closed."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Notifier:
    """Wakes coroutines of any event loop from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def subscribe(self) -> "asyncio.Future[None] | None":
        """A future that the next change completes; subscribe before deciding. None beyond MAX_WAITING."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                return None
            self._waiting.add(future)
        return future

    def unsubscribe(self, future: "asyncio.Future[None]") -> None:
        """Drop a future that is no longer awaited."""
        with self._lock:
            self._waiting.discard(future)

    def notify(self) -> None:
        """Complete every subscribed future."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            complete(future)
