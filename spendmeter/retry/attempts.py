"""Calls that wait while their budget is spent and are then repeated. Nothing else is ever retried."""

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar, cast

from spendmeter.retry.budget_changes import BudgetChanges
from spendmeter.retry.policy import RetryPolicy, RetryState, Waiting
from spendmeter.retry.refusals import BudgetRefusal, refusal_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
OnWait = Callable[[Waiting], object]
"""Called before each wait; if it returns a coroutine and there is a loop, that is awaited."""

DEFAULT_POLICY = RetryPolicy()


async def when_budget_allows(
    call: Callable[[], Awaitable[T]],
    policy: RetryPolicy = DEFAULT_POLICY,
    *,
    on_wait: OnWait | None = None,
    changes: BudgetChanges | None = None,
) -> T:
    """Make the call; while a budget refuses it, wait for the budget and make it again.

    Waits for `retry-after`, retries at intervals, and is woken by `changes` if there is a
    connection to Kafka. Raises what the call raises: at once if it is not a budget's refusal,
    or the last refusal once `policy` ends.
    """
    async for attempt in Attempts(policy, on_wait=on_wait, changes=changes):
        async with attempt:
            return await call()
    raise AssertionError("the last attempt raises")


def when_budget_allows_sync(
    call: Callable[[], T], policy: RetryPolicy = DEFAULT_POLICY, *, on_wait: OnWait | None = None
) -> T:
    """The same for a program without an event loop; it does not follow changes."""
    for attempt in Attempts(policy, on_wait=on_wait):
        with attempt:
            return call()
    raise AssertionError("the last attempt raises")


def waits(
    policy: RetryPolicy = DEFAULT_POLICY,
    *,
    on_wait: OnWait | None = None,
    changes: BudgetChanges | None = None,
) -> Callable[[F], F]:
    """A decorator: the function, a coroutine function or a plain one, waits while its budget is spent.

    An asynchronous generator is neither: decorate the function that makes the request, not the reader.
    """

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def waiting(*args: Any, **kwargs: Any) -> Any:
                return await when_budget_allows(
                    lambda: function(*args, **kwargs), policy, on_wait=on_wait, changes=changes
                )

            return cast(F, waiting)
        if changes is not None:
            raise TypeError("changes work with coroutine functions only")

        @functools.wraps(function)
        def waiting_sync(*args: Any, **kwargs: Any) -> Any:
            return when_budget_allows_sync(lambda: function(*args, **kwargs), policy, on_wait=on_wait)

        return cast(F, waiting_sync)

    return decorate


class Attempts:
    """`for attempt in Attempts(): with attempt: …` (or `async for`, `async with`): repeats a block.

    A refused block waits and is entered again; a served one ends the loop.
    Use one object per call.
    """

    def __init__(
        self,
        policy: RetryPolicy = DEFAULT_POLICY,
        *,
        on_wait: OnWait | None = None,
        changes: BudgetChanges | None = None,
    ) -> None:
        self._state = RetryState(policy, follows_changes=changes is not None)
        self._on_wait, self._changes = on_wait, changes
        self._mark = 0
        self._last: Attempt | None = None

    def __iter__(self) -> "Attempts":
        if self._changes is not None:
            raise TypeError("changes work with `async for` only")
        return self

    def __next__(self) -> "Attempt":
        if self._last is not None:
            waiting = self._last.waiting
            if waiting is None:
                raise StopIteration
            if self._on_wait is not None:
                self._on_wait(waiting)
            time.sleep(waiting.wait_seconds)
        self._last = Attempt(self._state)
        return self._last

    def __aiter__(self) -> "Attempts":
        return self

    async def __anext__(self) -> "Attempt":
        if self._last is not None:
            waiting = self._last.waiting
            if waiting is None:
                raise StopAsyncIteration
            if self._on_wait is not None:
                result = self._on_wait(waiting)
                if inspect.isawaitable(result):
                    await result
            await self._pause(waiting, self._mark)
        if self._changes is not None:
            self._mark = self._changes.mark()
        self._last = Attempt(self._state)
        return self._last

    async def _pause(self, waiting: Waiting, mark: int) -> None:
        if self._changes is None:
            await asyncio.sleep(waiting.wait_seconds)
            return
        try:
            async with asyncio.timeout(waiting.wait_seconds):
                await self._changes.since(mark, waiting.budget)
        except TimeoutError:
            return
        self._state.heard()


class Attempt:
    """One attempt; it suppresses only a refusal that will be retried."""

    def __init__(self, state: RetryState) -> None:
        self._state = state
        self.waiting: Waiting | None = None
        """The wait before the next attempt; None if this was the last."""

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        refusal = refusal_of(error) if isinstance(error, Exception) else None
        if refusal is None:
            return False
        self.waiting = next_wait(self._state, refusal)
        return self.waiting is not None

    async def __aenter__(self) -> "Attempt":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self.__exit__(kind, error, trace)


def next_wait(state: RetryState, refusal: BudgetRefusal) -> Waiting | None:
    """How long to wait now; None to give up."""
    return state.refused(refusal, time.monotonic(), datetime.now(UTC))
