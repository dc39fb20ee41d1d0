"""Replays: what to send so that an event among the dead letters counts after all. Pure.

A replay is the unchanged event, under its own id, as the only record of a producer that is named after it. So
it is one event for history (by its id) and for the stream (by its producer), however often it is sent and
however many dead letters it has. Its original producer, whose later events were counted long ago, does not
hide it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from prometheus_client import Counter

from spendmeter.contract.dead_letter import DeadLetter, NotHeld, Reader, Reason, not_held
from spendmeter.contract.records import InvalidRecord, decode, decode_usage
from spendmeter.contract.signing import NO_KEYS, Placed, SigningKeys
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import REPLAYS, SIGNED, ForeignProducer, check_writer
from spendmeter.kafka.client import KafkaTimeoutError, TopicPartition, consumer
from spendmeter.kafka.compacted import CompactedTopics
from spendmeter.settings import Settings
from spendmeter.topics.dead_letters import StoredRecord


class NotReplayable(ValueError):
    """There is nothing to send for that dead letter; the message says why, and what to do."""


class PutAside(NamedTuple):
    """Everything known about one dead letter."""

    letter: DeadLetter
    """Its first record, without key and payload."""
    offset: int
    """Of that record among the dead letters."""
    readers: frozenset[Reader]
    """Who wrote it."""
    resolved: DeadLetter | None = None
    """The latest record with its resolution."""

    @property
    def id(self) -> str:
        return self.letter.id


def producer_of(event_id: UUID) -> str:
    """The producer whose only record is the replay of that event."""
    return f"{REPLAYS}{event_id}"


def replay_of(letter: DeadLetter, now: datetime, keys: SigningKeys = NO_KEYS) -> UsageEvent:
    """The event to send, at that moment, for a dead letter that still has its payload.

    Raises:
        NotReplayable: its record still cannot be read, still does not belong to its producer_id, or
            already counts as a dead letter.
    """
    if letter.reason is Reason.REFUSED_BY_HISTORY:
        raise NotReplayable(
            "budgets count it already, and so do reconcile and opening balances, by its letter; only the"
            f" table lacks its row, which ClickHouse refused: {letter.detail}"
        )
    try:
        key, payload = letter.record_bytes()
    except NotHeld as error:
        raise NotReplayable(str(error)) from None
    headers = [(name, text.encode()) for name, text in letter.headers.items()]
    try:
        event = decode_usage(payload, headers, now)
        if letter.reason is Reason.FOREIGN_PRODUCER:
            _check_writer(
                Placed(letter.source_topic, letter.source_partition, key, payload, headers),
                event,
                letter.failed_at,
                keys,
            )
    except ForeignProducer as foreign:
        raise NotReplayable(f"it is still not its producer's: {foreign.detail}") from None
    except InvalidRecord as invalid:
        raise NotReplayable(f"it can still not be read: {invalid.detail}") from None
    return event.model_copy(update={"producer_id": producer_of(event.event_id), "seq": 1})


def _check_writer(record: Placed, event: UsageEvent, appended_at: datetime, keys: SigningKeys) -> None:
    """Refuse it without keys: whoever put it aside had keys, and here nobody can check the signature."""
    signer = check_writer(record, event, appended_at, keys)
    if event.producer_id.endswith(SIGNED) and not signer:
        raise ForeignProducer(
            event.producer_id,
            "set SPENDMETER_SIGNING_KEYS as for the stream, so that its signature can be checked",
        )


class HistoryCopy(NamedTuple):
    """The position of an event in history."""

    partition: int
    offset: int


def is_counted(aside: PutAside, in_history: Sequence[HistoryCopy]) -> bool:
    """Whether budgets already count the event: another copy was read, or the stream could read this one."""
    letter = aside.letter
    if Reader.HISTORY in aside.readers and Reader.STREAM not in aside.readers:
        return True
    return any((copy.partition, copy.offset) != _position(letter) for copy in in_history)


def _position(letter: DeadLetter) -> tuple[int, int]:
    return letter.source_partition, letter.source_offset


log = logging.getLogger(__name__)

REFUSED = Counter(
    "spendmeter_dead_letter_records_refused_total", "Records on spend.dead-letters that are no dead letter."
)
FETCH_WITHIN_SECONDS = 20.0


class DeadLetterTopic:
    """Keeps what is known of each dead letter, by its id; the payloads stay on the topic."""

    def __init__(self, settings: Settings) -> None:
        self.letters: dict[str, PutAside] = {}
        self._reader = CompactedTopics(settings, [settings.topic(Topic.DEAD_LETTERS)], self.apply)
        self.read_to_end = self._reader.read_to_end

    def apply(self, record: StoredRecord) -> None:
        """Apply one record."""
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
    """The dead letters at these offsets, with their payloads; None for a deleted one.

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
