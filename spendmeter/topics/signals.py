"""Reads spend.signals, or keeps the latest signal of every account in memory."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import datetime

from aiokafka.structs import ConsumerRecord
from prometheus_client import Counter

from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings

log = logging.getLogger(__name__)

REFUSED = Counter("spendmeter_signal_records_refused_total", "Records on spend.signals that are no signal.")


SignalRead = Callable[[str, Signal | None], None]
"""Called with the account and its signal, None for a tombstone."""


class SignalFeed(CompactedTopics):
    """Follows spend.signals without keeping anything; an invalid record is skipped."""

    def __init__(self, settings: Settings, on_signal: SignalRead) -> None:
        super().__init__(settings, [settings.topic(Topic.SIGNALS)], self.apply)
        self._on_signal = on_signal

    def apply(self, record: ConsumerRecord) -> None:
        """Pass one record on."""
        account = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._on_signal(account, None)
            return
        try:
            signal = decode(Signal, record.value, record.headers)
            if signal.account != account:
                raise InvalidRecord(Reason.INVALID, f"its key is not its account, {signal.account!r}")
        except InvalidRecord as invalid:
            REFUSED.inc()
            log.warning("spend.signals offset %d is no signal, ignored: %s", record.offset, invalid)
            return
        self._on_signal(account, signal)


class SignalTopic(SignalFeed):
    """Follows spend.signals and keeps, per account, the highest (window_start, revision, version)."""

    def __init__(self, settings: Settings) -> None:
        self.signals: dict[str, Signal] = {}
        super().__init__(settings, self._keep)

    def _keep(self, account: str, signal: Signal | None) -> None:
        if signal is None:
            self.signals.pop(account, None)
            return
        known = self.signals.get(account)
        if known is None or signal.order() >= known.order():
            self.signals[account] = signal


async def follow_signals(settings: Settings, wanted: Callable[[Signal], bool]) -> AsyncGenerator[Signal]:
    """The wanted signals: first the present ones, then every change, never an older one after a newer.

    A slow reader gets only the latest of each account, so at most one per account waits.
    """
    waiting: dict[str, Signal] = {}
    latest: dict[str, tuple[int, datetime, int]] = {}
    news = asyncio.Event()

    def receive(account: str, signal: Signal | None) -> None:
        if signal is None:
            waiting.pop(account, None)
            latest.pop(account, None)
        elif wanted(signal) and (account not in latest or signal.order() >= latest[account]):
            latest[account] = signal.order()
            waiting[account] = signal
            news.set()

    reading = asyncio.create_task(SignalFeed(settings, receive).run())
    # If the reading ends, that is a bug of ours and must not leave anybody waiting.
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
