"""Waking those who wait, from any thread."""

import asyncio
import threading

import pytest

from spendmeter_gateway import loops as waking
from spendmeter_gateway.loops import Notifier, call_soon
from tests.patience import WITHIN_SECONDS


async def test_news_from_another_thread_wakes_everybody_who_waits() -> None:
    news = Notifier()
    waiting = [news.subscribe() for _ in range(3)]
    threading.Thread(target=news.notify).start()

    await asyncio.wait_for(asyncio.gather(*(one for one in waiting if one)), timeout=WITHIN_SECONDS)


async def test_who_left_is_not_woken() -> None:
    news = Notifier()
    gone, there = news.subscribe(), news.subscribe()
    assert gone is not None
    assert there is not None
    news.unsubscribe(gone)
    news.notify()
    await asyncio.wait_for(there, timeout=WITHIN_SECONDS)

    assert not gone.done()


async def test_beyond_the_bound_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "MAX_WAITING", 1)
    news = Notifier()

    assert news.subscribe() is not None
    assert news.subscribe() is None


def test_a_loop_that_has_ended_is_passed_over() -> None:
    news = Notifier()

    async def subscribe() -> None:
        news.subscribe()

    asyncio.run(subscribe())
    news.notify()


def test_what_is_to_be_called_on_a_loop_that_has_ended_is_left_undone() -> None:
    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    call_soon(asyncio.run(running()), pytest.fail)
