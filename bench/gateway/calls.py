"""Calls of the callback's hooks, timed one by one as a request sees them."""

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from litellm.caching.caching import DualCache
from litellm.proxy._types import UserAPIKeyAuth

from bench.gateway.world import Requests
from spendmeter_gateway.exchange import Exchange, enter_exchange
from spendmeter_gateway.litellm.callback import SpendmeterCallback

# As a proxy that serves some thousand requests a second: other threads get their turns in between.
CALLS_PER_BREATH, BREATH_SECONDS = 20, 0.005
CALLS_PER_PIECE = 500


@dataclass
class Times:
    """Microseconds of each call: on the clock, and of this thread's processor time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    async def timed(self, call: Awaitable[Any]) -> Any:
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        answer = await call
        wall_end, cpu_end = time.perf_counter_ns(), time.thread_time_ns()
        self.wall.append((wall_end - wall) / 1000)
        self.cpu.append((cpu_end - cpu) / 1000)
        return answer


@dataclass
class Measured:
    """The three kinds of call."""

    first_look: Times = field(default_factory=Times)
    settled_look: Times = field(default_factory=Times)
    recording: Times = field(default_factory=Times)


def quantile(values: list[float], fraction: float) -> float:
    """The value that this fraction of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(fraction * len(ordered)), len(ordered) - 1)]


class Caller:
    """A LiteLLM proxy as the callback sees it."""

    def __init__(self, callback: SpendmeterCallback, requests: Requests) -> None:
        self._callback, self._requests, self._cache = callback, requests, DualCache()

    async def look(self, auth: UserAPIKeyAuth, data: dict[str, Any]) -> None:
        """One decision, in an exchange such as the wrapper around the server makes of each request."""
        enter_exchange(Exchange("POST", "/v1/chat/completions", is_watched=True))
        await self._callback.async_pre_call_hook(auth, self._cache, data, "acompletion")

    def log(self, kwargs: dict[str, Any], at: datetime) -> Awaitable[Any]:
        """LiteLLM logs the answer, in a copy of the request's context."""
        return self._callback.async_log_success_event(kwargs, None, at, at)

    async def serve(self, subjects: range, measured: Measured) -> None:
        """Two requests of each subject: its first and, at once, its second; both are recorded."""
        for n in subjects:
            auth = self._requests.auth(n)
            for times in (measured.first_look, measured.settled_look):
                data = self._requests.data(n)
                await times.timed(self.look(auth, data))
                kwargs = self._requests.logged(n, data["metadata"]["spendmeter_event_id"])
                await measured.recording.timed(self.log(kwargs, datetime.now()))  # noqa: DTZ005
            if n % CALLS_PER_BREATH == 0:
                await asyncio.sleep(BREATH_SECONDS)

    async def alone(self, keys: int, calls: int) -> Times:
        """Settled looks called one after another with nothing in between, by so many keys in turn.

        Each time is the mean of a piece: a clock that is read for every call would be much of what it shows.
        """
        times = Times()
        for round_of in (range(keys), range(calls)):
            times = Times()
            for first in range(0, len(round_of), CALLS_PER_PIECE):
                piece = [n % keys for n in round_of[first : first + CALLS_PER_PIECE]]
                asked = [(self._requests.auth(n), self._requests.data(n)) for n in piece]
                cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
                for auth, data in asked:
                    await self.look(auth, data)
                wall_end, cpu_end = time.perf_counter_ns(), time.thread_time_ns()
                times.wall.append((wall_end - wall) / 1000 / len(asked))
                times.cpu.append((cpu_end - cpu) / 1000 / len(asked))
        return times

    async def allocations(self, new: range) -> tuple[dict[str, float], float]:
        """Per call: bytes that a first and a settled look keep, and that one has at its most; blocks kept."""
        asked = [(self._requests.auth(n), self._requests.data(n), self._requests.data(n)) for n in new]
        gc.collect()
        tracemalloc.start()
        try:
            began, _ = tracemalloc.get_traced_memory()
            for auth, data, _ in asked:
                await self.look(auth, data)
            after_first, _ = tracemalloc.get_traced_memory()
            for auth, _, data in asked:
                await self.look(auth, data)
            after_settled, _ = tracemalloc.get_traced_memory()
            most = 0
            for auth, _, data in asked[:100]:
                tracemalloc.reset_peak()
                at, _ = tracemalloc.get_traced_memory()
                await self.look(auth, data)
                most = max(most, tracemalloc.get_traced_memory()[1] - at)
        finally:
            tracemalloc.stop()
        blocks = sys.getallocatedblocks()
        for auth, _, data in asked:
            await self.look(auth, data)
        blocks = sys.getallocatedblocks() - blocks
        kept = {
            "first look keeps": (after_first - began) / len(asked),
            "settled look keeps": (after_settled - after_first) / len(asked),
            "settled look at its most": float(most),
        }
        return kept, blocks / len(asked)
