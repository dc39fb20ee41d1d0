"""Asks history from the event loop: few queries at a time, and one for all who ask the same."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

from spendmeter.runtime import clickhouse
from spendmeter.runtime.clickhouse import Client, Unusable
from spendmeter_console.history.queries import HistoryQueries
from spendmeter_console.settings import ConsoleSettings
from spendmeter_console.viewer import ViewScope

MAX_AT_ONCE = 4
MAX_WAITING = 100
MAX_REMEMBERED = 256
MAX_RESULT_ROWS = 200_000
T = TypeVar("T")


class HistoryBusy(Exception):
    """More ask than are answered."""

    def __str__(self) -> str:
        return "history has more questions than it can answer; try again in a minute"


class HistoryPool:
    """On one loop. Answers are remembered for as long as who asks is content with."""

    def __init__(self, settings: ConsoleSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings.model_copy(
            update={
                "query_max_seconds": settings.web_query_max_seconds,
                "query_max_memory_bytes": settings.web_query_max_memory_bytes,
            }
        )
        self._clock = clock
        self._client: Client | None = None
        self._connecting = Lock()
        """The first questions come on several threads; one of them makes the client."""
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self._waiting = 0
        self._remembered: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def ask(
        self,
        scope: ViewScope,
        work: Callable[[HistoryQueries], T],
        key: Hashable = None,
        fresh_seconds: float = 0,
    ) -> T:
        """What history answers a viewer.

        Args:
            key: under which the answer is shared by all of the same scope, for so many seconds.

        Raises:
            Unusable: ClickHouse is away or refuses; a sentence that says why.
            HistoryBusy: too many wait already.
        """
        if key is None:
            return await self._run(scope, work)
        whole, now = (scope, key), self._clock()
        known = self._remembered.get(whole)
        if known is not None and (
            not known[1].done() or (now - known[0] < fresh_seconds and _is_good(known[1]))
        ):
            task = known[1]
        else:
            task = asyncio.create_task(self._run(scope, work))
            self._remembered[whole] = (now, task)
            self._remembered.move_to_end(whole)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        # One who leaves must not end it for the others.
        found: T = await asyncio.shield(task)
        return found

    async def close(self) -> None:
        """Let go of ClickHouse."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    async def _run(self, scope: ViewScope, work: Callable[[HistoryQueries], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise HistoryBusy
        self._waiting += 1
        try:
            async with self._at_once:
                return await asyncio.to_thread(self._blocking, scope, work)
        finally:
            self._waiting -= 1

    def _blocking(self, scope: ViewScope, work: Callable[[HistoryQueries], T]) -> T:
        with clickhouse.raising_unusable(self._settings):
            with self._connecting:
                if self._client is None:
                    self._client = clickhouse.reader(
                        self._settings,
                        limits={"max_result_rows": MAX_RESULT_ROWS, "result_overflow_mode": "throw"},
                    )
            return work(HistoryQueries(self._client, scope))


def _is_good(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is None


__all__ = ["HistoryBusy", "HistoryPool", "Unusable"]
