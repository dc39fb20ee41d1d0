"""Changes of budgets over Kafka: after a raise, a reset, a removal or a correction, waiting calls retry at
once.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal, State
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.signals import SignalFeed
from spendmeter.values.account import budget_id_of

READ_WITHIN_SECONDS = 30.0


class BudgetChanges:
    """Follows budgets and signals while it is entered; one serves all waiting calls of an event loop."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._budgets = BudgetTopic(settings, self._on_budget)
        self._signals = SignalFeed(settings, self._on_signal)
        self._exceeded: set[str] = set()
        self._changes: dict[str, int] = {}
        """By budget id: the number of its latest change."""
        self._count = 0
        self._changed_event = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Raises TimeoutError: Kafka has not answered for READ_WITHIN_SECONDS."""
        async with AsyncExitStack() as opened:
            opened.push_async_callback(self._stop)
            self._tasks = [asyncio.create_task(follow.run()) for follow in (self._budgets, self._signals)]
            async with asyncio.timeout(READ_WITHIN_SECONDS):
                for follow in (self._budgets, self._signals):
                    await self._or_failed(asyncio.create_task(follow.caught_up.wait()))
            opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def mark(self) -> int:
        """A mark to get before a call; `since` then reports changes after it."""
        return self._count

    async def since(self, mark: int, budget: str | None) -> None:
        """Return once that budget (None: any) has changed after the mark, so that it may admit again."""
        while not self._has_changed(mark, budget):
            changed = self._changed_event
            await self._or_failed(asyncio.create_task(changed.wait()))

    def _has_changed(self, mark: int, budget: str | None) -> bool:
        return (self._count if budget is None else self._changes.get(budget, 0)) > mark

    async def _or_failed(self, waiting: "asyncio.Task[object]") -> None:
        """Wait for a task. If a reader ends, that is a bug of ours and must not leave anybody waiting."""
        try:
            await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            waiting.cancel()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def _on_budget(self, budget_id: str, budget: Budget | None) -> None:
        self._changed(budget_id)

    def _on_signal(self, account: str, signal: Signal | None) -> None:
        if signal is not None and signal.state is State.EXCEEDED:
            self._exceeded.add(account)
        elif account in self._exceeded:
            self._exceeded.discard(account)
            self._changed(budget_id_of(account))

    def _changed(self, budget_id: str) -> None:
        self._count += 1
        self._changes[budget_id] = self._count
        self._notify()

    def _notify(self) -> None:
        self._changed_event.set()
        self._changed_event = asyncio.Event()
