"""How far spend.usage goes: what claims to include more is forged, or of a topic that was made anew."""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from spendmeter.runtime.kafka import consumer
from spendmeter.runtime.settings import Settings

log = logging.getLogger(__name__)

ASK_WITHIN_SECONDS = 10.0
RETRY_SECONDS = 1.0


class LogEnds:
    """What is known of where a topic's partitions end, and the hand that asks. On one loop.

    On a connection of its own: on another the question would wait behind a fetch that the broker holds.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._settings = settings
        self._ends: dict[int, int] = {}
        self._asker: AIOKafkaConsumer | None = None

    def stored(self, partition: int, offset: int) -> None:
        """A record is stored there."""
        if offset >= self._ends.get(partition, 0):
            self._ends[partition] = offset + 1

    def end(self, partition: int) -> int:
        """The partition has had every offset below, as far as is known."""
        return self._ends.get(partition, 0)

    def hold(self, last_offsets: Mapping[int, int]) -> bool:
        """Whether each of these partitions is known to have had that offset."""
        ends = self._ends
        return all(offset < ends.get(partition, 0) for partition, offset in last_offsets.items())

    async def look(self, partitions: Iterable[int] = ()) -> None:
        """Ask where all partitions end now, those named among them if they exist; until Kafka answers."""
        wanted = set(partitions)
        while True:
            try:
                async with asyncio.timeout(ASK_WITHIN_SECONDS):
                    # Lower than before where the topic was made anew.
                    self._ends = await self._ask(wanted)
                    return
            except (KafkaError, TimeoutError) as error:
                log.warning("cannot read where %s ends, trying again: %r", self.topic, error)
            await self.close()
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Let go of Kafka; `look` connects again."""
        asker, self._asker = self._asker, None
        if asker is not None:
            await asker.stop()

    async def _ask(self, wanted: set[int]) -> dict[int, int]:
        if self._asker is None:
            self._asker = consumer(self._settings)
            await self._asker.start()
        client = self._asker._client
        known = set(await client._wait_on_metadata(self.topic))
        if wanted - known:
            await client.force_metadata_update()
            known = set(await client._wait_on_metadata(self.topic))
        ends = await self._asker.end_offsets([TopicPartition(self.topic, number) for number in known])
        return {tp.partition: end for tp, end in ends.items()}
