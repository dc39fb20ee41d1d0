"""Event loops of other threads: how one of them is called, and a future of it completed."""

import asyncio
from collections.abc import Callable


def complete(future: "asyncio.Future[None]") -> None:
    """Complete a future of any loop, from any thread; one that is done stays as it is."""
    call_soon(future.get_loop(), _set, future)


def call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Have a loop call it, from any thread; not one that is closed, and with it whoever waited."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
