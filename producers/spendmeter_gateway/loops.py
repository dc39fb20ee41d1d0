"""Event loops of other threads: how to call one, and how to complete one of its futures."""

import asyncio
from collections.abc import Callable


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
