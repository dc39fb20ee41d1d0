"""Background responses that nobody reads: the provider bills them all the same, so the gateway reads them.

The gateway at which a response was made reads it, less and less often, until it has ended. LiteLLM logs that
read, and the log event is the bill. If a client has read it to its end before, the gateway does not.
"""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prometheus_client import Counter, Gauge

from spendmeter.contract.provider_object import ProviderObject

log = logging.getLogger(__name__)

FOLLOWED = Gauge("spendmeter_objects_followed", "Background responses that are read until they have ended.")
UNREAD = Counter(
    "spendmeter_objects_unread_total", "Background responses that the gateway gave up before their end."
)

FOLLOWED_FOR = timedelta(days=1)
"""After it was made. No provider needs longer for one."""
MAX_FOLLOWED = 10_000
MAX_PAUSE_SECONDS = 600.0
_TICK_SECONDS = 0.5
_READS_AT_ONCE = 8
_READ_WITHIN_SECONDS = 30.0


Read = Callable[[str], Awaitable[bool]]
"""Reads a response by that id, and says whether it has ended."""


@dataclass
class _Followed:
    object_id: str
    read_as: str
    ends_at: datetime
    due_seconds: float
    pause_seconds: float


class ObjectFollower:
    """`follow` from any thread; `run` on the proxy's loop, outside of any request."""

    def __init__(self, first_seconds: float, is_billed: Callable[[str], bool]) -> None:
        """`first_seconds`: how long a client has to read it first; 0 follows nothing.

        `is_billed`: whether an object's bill was recorded here.
        """
        self._first_seconds, self._is_billed = first_seconds, is_billed
        self._followed: OrderedDict[str, _Followed] = OrderedDict()
        self._lock = threading.Lock()

    def follow(self, one: ProviderObject) -> None:
        """Read it from now on if this gateway must read it and it may still run; otherwise stop
        reading it.
        """
        if not one.read_as:
            self._drop(one.object_id)
            return
        ends_at = one.created_at + FOLLOWED_FOR
        if not self._first_seconds or ends_at <= datetime.now(UTC):
            return
        due = time.monotonic() + self._first_seconds
        with self._lock:
            if one.object_id not in self._followed:
                self._followed[one.object_id] = _Followed(
                    one.object_id, one.read_as, ends_at, due, self._first_seconds
                )
            if len(self._followed) > MAX_FOLLOWED:
                self._followed.popitem(last=False)
                UNREAD.inc()
            FOLLOWED.set(len(self._followed))

    async def run(self, read: Read) -> None:
        """Read what is due, for ever."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                due = [one for one in self._followed.values() if one.due_seconds <= now]
            await asyncio.gather(*(self._read_due(one, read) for one in due[:_READS_AT_ONCE]))

    async def _read_due(self, one: _Followed, read: Read) -> None:
        if self._is_billed(one.object_id) or await _has_ended(one, read):
            self._drop(one.object_id)
        elif datetime.now(UTC) >= one.ends_at:
            UNREAD.inc()
            log.warning("%s has not ended within %s: it is no longer read", one.object_id, FOLLOWED_FOR)
            self._drop(one.object_id)
        else:
            one.pause_seconds = min(one.pause_seconds * 2, MAX_PAUSE_SECONDS)
            one.due_seconds = time.monotonic() + one.pause_seconds

    def _drop(self, object_id: str) -> None:
        with self._lock:
            self._followed.pop(object_id, None)
            FOLLOWED.set(len(self._followed))


async def _has_ended(one: _Followed, read: Read) -> bool:
    try:
        async with asyncio.timeout(_READ_WITHIN_SECONDS):
            return await read(one.read_as)
    except Exception as error:  # LiteLLM's, of any provider
        if getattr(error, "status_code", None) == 404:
            # Deleted, or never kept: its cost stays unknown.
            UNREAD.inc()
            log.warning("%s was deleted before it was read", one.object_id)
            return True
        log.info("%s could not be read: %r", one.object_id, error)
        return False
