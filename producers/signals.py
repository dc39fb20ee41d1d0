"""spend.signals as a gateway believes it: nothing whose watermark lies beyond the end of spend.usage.

A watermark says which of this gateway's own events a signal includes; these are then counted no longer. One
beyond the end of the log, forged or of a topic that was made anew, would have events forgotten that no
signal will ever include. How far the log goes is asked of Kafka on this loop, never on a request's path,
and only where neither an earlier answer nor an acknowledgement says that it goes far enough.
"""

import asyncio
import logging
from collections import deque

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from prometheus_client import Counter

from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.runtime.compacted import CATCH_UP_WITHIN_SECONDS, RETRY_SECONDS
from spendmeter.runtime.kafka import consumer
from spendmeter.runtime.settings import Settings
from spendmeter.runtime.signal_topic import SignalFeed, SignalRead

log = logging.getLogger(__name__)

BEYOND_THE_END = Counter(
    "spendmeter_signal_watermarks_refused_total",
    "Signals that include more of spend.usage than there is, not believed.",
)
ASK_WITHIN_SECONDS = 10.0
BETWEEN_QUESTIONS_SECONDS = 0.01
"""Many signals may come with each; by their number alone they cost too much."""
MAX_WAITING = 100_000
"""Signals that wait for an answer. Each is replaced by its account's next one: the oldest go first."""


class BelievedSignals(SignalFeed):
    """Follows spend.signals. All on one loop."""

    def __init__(self, settings: Settings, on_signal: SignalRead) -> None:
        super().__init__(settings, self._check)
        self._settings = settings
        self._topic = settings.topic(Topic.USAGE)
        self._believed = on_signal
        self._ends: dict[int, int] = {}
        """By partition of spend.usage: it has had all offsets below."""
        self._waiting: deque[Signal] = deque(maxlen=MAX_WAITING)
        self._woken, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()
        self._asker: AIOKafkaConsumer | None = None
        self._has_refused = False
        self._all_read, self.caught_up = self.caught_up, asyncio.Event()
        self.run = self._run
        self.catch_up = self._catch_up
        self.wait_caught_up = self._wait_caught_up

    def stored(self, partition: int, offset: int) -> None:
        """A record of spend.usage is stored there."""
        self._ends[partition] = max(offset + 1, self._ends.get(partition, 0))

    async def _run(self) -> None:
        """Read until cancelled; an unreachable broker is tried again every second."""
        try:
            # Then what is there at the start need not wait.
            self._ends = await self._ask()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._reader.run())
                tasks.create_task(self._answer())
                tasks.create_task(self._wait_caught_up())
        finally:
            await self._close()

    async def _catch_up(self) -> None:
        """Return once everything that the brokers have stored by now is believed or refused.

        Raises:
            KafkaError, ReaderEnded: as `CompactedTopics.catch_up`.
        """
        await self._reader.catch_up()
        try:
            await asyncio.wait_for(self._settled.wait(), CATCH_UP_WITHIN_SECONDS)
        except TimeoutError:
            raise KafkaTimeoutError(f"Kafka did not say where {self._topic} ends") from None

    async def _wait_caught_up(self) -> None:
        await self._reader.wait_caught_up()
        await self._settled.wait()
        self.caught_up.set()

    def _check(self, account: str, signal: Signal | None) -> None:
        if signal is None or self._is_within(signal):
            self._believed(account, signal)
            return
        self._waiting.append(signal)
        self._settled.clear()
        self._woken.set()

    def _is_within(self, signal: Signal) -> bool:
        ends = self._ends
        return all(offset < ends.get(partition, 0) for partition, offset in signal.watermark.items())

    async def _answer(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            # What comes while Kafka is asked may rest on more than it says.
            count = len(self._waiting)
            partitions = {p for signal in self._waiting for p in signal.watermark}
            ends = await self._ask(partitions)
            # Lower than before where the topic was made anew.
            self._ends = ends
            for _ in range(min(count, len(self._waiting))):
                signal = self._waiting.popleft()
                if self._is_within(signal):
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
        beyond = {p: o for p, o in signal.watermark.items() if o >= self._ends.get(p, 0)}
        partition = min(beyond)
        log.error(
            "a signal of %s includes %s[%d] up to offset %d, and that ends at %d: it is not believed, nor any"
            " other like it (spendmeter_signal_watermarks_refused_total counts them). Somebody else than the"
            " stream writes signals, or the topic was made anew",
            signal.account,
            self._topic,
            partition,
            beyond[partition],
            self._ends.get(partition, 0),
        )

    async def _ask(self, partitions: set[int] | None = None) -> dict[int, int]:
        """Where the topic ends, by partition; asked until Kafka answers."""
        while True:
            try:
                async with asyncio.timeout(ASK_WITHIN_SECONDS):
                    return await self._ends_of(partitions or set())
            except (KafkaError, TimeoutError) as error:
                log.warning("cannot read where %s ends, trying again: %r", self._topic, error)
            await self._close()
            await asyncio.sleep(RETRY_SECONDS)

    async def _ends_of(self, partitions: set[int]) -> dict[int, int]:
        if self._asker is None:
            self._asker = consumer(self._settings)
            await self._asker.start()
        client = self._asker._client
        known = set(await client._wait_on_metadata(self._topic))
        if partitions - known:
            await client.force_metadata_update()
            known = set(await client._wait_on_metadata(self._topic))
        ends = await self._asker.end_offsets([TopicPartition(self._topic, number) for number in known])
        return {tp.partition: end for tp, end in ends.items()}

    async def _close(self) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            await asker.stop()
