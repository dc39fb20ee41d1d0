"""spend.dead-letters, read once: which records were put aside, and what became of each."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable

from prometheus_client import Counter

from spendmeter.contract.dead_letter import DeadLetter, not_held
from spendmeter.contract.records import InvalidRecord, decode
from spendmeter.contract.topics import Topic
from spendmeter.history.replay import PutAside
from spendmeter.kafka.client import KafkaTimeoutError, TopicPartition, consumer
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord

log = logging.getLogger(__name__)

REFUSED = Counter(
    "spendmeter_dead_letter_records_refused_total", "Records on spend.dead-letters that are no dead letter."
)
FETCH_WITHIN_SECONDS = 20.0


class DeadLetterTopic:
    """Holds what is known of each letter, by its id; the payloads stay where they are."""

    def __init__(self, settings: Settings) -> None:
        self.letters: dict[str, PutAside] = {}
        self._reader = CompactedTopics(settings, [settings.topic(Topic.DEAD_LETTERS)], self.apply)
        self.read_to_end = self._reader.read_to_end

    def apply(self, record: StoredRecord) -> None:
        """Bring one record in."""
        try:
            letter = decode(DeadLetter, record.value, record.headers)
        except InvalidRecord as invalid:
            REFUSED.inc()
            log.warning("spend.dead-letters offset %d is no dead letter, ignored: %s", record.offset, invalid)
            return
        known = self.letters.get(letter.id)
        if letter.resolution is not None:
            if known is not None:
                self.letters[letter.id] = known._replace(resolved=letter)
        elif known is None:
            kept = letter.model_copy(update=not_held())
            self.letters[letter.id] = PutAside(kept, record.offset, frozenset({letter.reader}))
        else:
            self.letters[letter.id] = known._replace(readers=known.readers | {letter.reader})


async def fetch_dead_letters(settings: Settings, offsets: Iterable[int]) -> AsyncIterator[DeadLetter | None]:
    """The letters at these offsets of spend.dead-letters, with their payloads; None for one that is gone.

    Raises:
        KafkaError: the broker cannot be reached, or does not answer in time.
    """
    partition = TopicPartition(settings.topic(Topic.DEAD_LETTERS), 0)
    reader = consumer(settings)
    await reader.start()
    try:
        reader.assign([partition])
        begin = (await reader.beginning_offsets([partition]))[partition]
        for offset in offsets:
            if offset < begin:
                yield None
                continue
            reader.seek(partition, offset)
            try:
                async with asyncio.timeout(FETCH_WITHIN_SECONDS):
                    record = await reader.getone(partition)
            except TimeoutError:
                raise KafkaTimeoutError(f"{partition.topic} offset {offset} was not read in time") from None
            yield decode(DeadLetter, record.value, record.headers) if record.offset == offset else None
    finally:
        await reader.stop()
