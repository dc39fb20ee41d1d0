"""spend.signals as a gateway believes it: nothing whose watermark lies beyond the end of spend.usage.

A watermark says which of this gateway's own events a signal includes; these are then counted no longer. One
beyond the end of the log, forged or of a topic that was made anew, would have events forgotten that no
signal will ever include. How far the log goes is asked of Kafka on this loop, never on a request's path,
and only where neither an earlier answer nor an acknowledgement says that it goes far enough.
"""

import asyncio
import logging
from collections import deque

from aiokafka.errors import KafkaTimeoutError
from prometheus_client import Counter

from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.runtime.compacted import CATCH_UP_WITHIN_SECONDS
from spendmeter.runtime.log_ends import LogEnds
from spendmeter.runtime.settings import Settings
from spendmeter.runtime.signal_topic import SignalFeed, SignalRead

log = logging.getLogger(__name__)

BEYOND_THE_END = Counter(
    "spendmeter_signal_watermarks_refused_total",
    "Signals that include more of spend.usage than there is, not believed.",
)
BETWEEN_QUESTIONS_SECONDS = 0.01
"""Many signals may come with each; by their number alone they cost too much."""
MAX_WAITING = 100_000
"""Signals that wait for an answer. Each is replaced by its account's next one: the oldest go first."""


class BelievedSignals(SignalFeed):
    """Follows spend.signals. All on one loop."""

    def __init__(self, settings: Settings, on_signal: SignalRead) -> None:
        super().__init__(settings, self._check)
        self._ends = LogEnds(settings, settings.topic(Topic.USAGE))
        self.stored = self._ends.stored
        self._believed = on_signal
        self._waiting: deque[Signal] = deque(maxlen=MAX_WAITING)
        self._woken, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()
        self._has_refused = False
        self._all_read, self.caught_up = self.caught_up, asyncio.Event()
        self.run = self._run
        self.catch_up = self._catch_up
        self.wait_caught_up = self._wait_caught_up

    async def _run(self) -> None:
        """Read until cancelled; an unreachable broker is tried again every second."""
        try:
            # Then what is there at the start need not wait.
            await self._ends.look()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reader.run())
                tasks.create_task(self._answer())
                tasks.create_task(self._wait_caught_up())
        finally:
            await self._ends.close()

    async def _catch_up(self) -> None:
        """Return once everything that the brokers have stored by now is believed or refused.

        Raises:
            KafkaError, ReaderEnded: as `CompactedTopics.catch_up`.
        """
        await self._reader.catch_up()
        try:
            await asyncio.wait_for(self._settled.wait(), CATCH_UP_WITHIN_SECONDS)
        except TimeoutError:
            raise KafkaTimeoutError(f"Kafka did not say where {self._ends.topic} ends") from None

    async def _wait_caught_up(self) -> None:
        await self._reader.wait_caught_up()
        await self._settled.wait()
        self.caught_up.set()

    def _check(self, account: str, signal: Signal | None) -> None:
        if signal is None or self._ends.hold(signal.watermark):
            self._believed(account, signal)
            return
        self._waiting.append(signal)
        self._settled.clear()
        self._woken.set()

    async def _answer(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            # What comes while Kafka is asked may rest on more than it says.
            count = len(self._waiting)
            partitions = {p for signal in self._waiting for p in signal.watermark}
            await self._ends.look(partitions)
            for _ in range(min(count, len(self._waiting))):
                signal = self._waiting.popleft()
                if self._ends.hold(signal.watermark):
                    self._believed(signal.account, signal)
                else:
                    self._refuse(signal)
            if self._waiting:
                self._woken.set()
            else:
                self._settled.set()
            await asyncio.sleep(BETWEEN_QUESTIONS_SECONDS)

    def _refuse(self, signal: Signal) -> None:
        BEYOND_THE_END.inc()
        if self._has_refused:
            return
        self._has_refused = True
        beyond = {p: o for p, o in signal.watermark.items() if o >= self._ends.end(p)}
        partition = min(beyond)
        log.error(
            "a signal of %s includes %s[%d] up to offset %d, and that ends at %d: it is not believed, nor any"
            " other like it (spendmeter_signal_watermarks_refused_total counts them). Somebody else than the"
            " stream writes signals, or the topic was made anew",
            signal.account,
            self._ends.topic,
            partition,
            beyond[partition],
            self._ends.end(partition),
        )
