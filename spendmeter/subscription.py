"""Following signals: each account's latest, as it changes, for as long as somebody listens."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import datetime

from spendmeter.contract.signal import Signal
from spendmeter.runtime.settings import Settings
from spendmeter.runtime.signal_topic import SignalFeed


async def follow_signals(settings: Settings, wanted: Callable[[Signal], bool]) -> AsyncGenerator[Signal]:
    """The signals that are wanted: those there are, then every change; none older than one before it.

    Who listens slowly gets the latest of each account, so no more wait than there are accounts.
    """
    waiting: dict[str, Signal] = {}
    latest: dict[str, tuple[int, datetime, int]] = {}
    news = asyncio.Event()

    def take(account: str, signal: Signal | None) -> None:
        if signal is None:
            waiting.pop(account, None)
            latest.pop(account, None)
        elif wanted(signal) and (account not in latest or signal.order() >= latest[account]):
            latest[account] = signal.order()
            waiting[account] = signal
            news.set()

    reading = asyncio.create_task(SignalFeed(settings, take).run())
    # What ends the reading is a bug of ours, and must not leave anybody waiting.
    reading.add_done_callback(lambda _: news.set())
    try:
        while True:
            await news.wait()
            if reading.done():
                reading.result()
            news.clear()
            while waiting:
                yield waiting.pop(next(iter(waiting)))
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
