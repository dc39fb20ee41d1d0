"""What no gateway of ours would send in one piece: resent and interleaved chunks, and poison."""

import asyncio
import base64
import contextlib
import json
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from spendmeter.contract.records import Record, encode_usage
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.kafka.client import partition_of, producer
from spendmeter.settings import Settings
from spendmeter.values.times import to_unix_us
from tests.faults.ledger import Entry, Ledger
from tests.faults.traffic import KEYS, MAX_COST_NANOUSD, new_id
from tests.integration.garbage.generate import garbage
from tests.raw_records import Raw, raw_producer, send_raw

NAME = "hand"
CHUNK = 40
ATTEMPTS = 60
RETRY_SECONDS = 1.0
GARBAGE_BATCHES = 50

Chunk = Sequence[UsageEvent]


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


def _free(record: Raw) -> Raw:
    """Garbage that is a usage event costs nothing: it is of nobody, and some budgets are of everybody."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        event = json.loads(record.value or b"null")
        if event["cost_nanousd"] > 0:
            return record._replace(value=json.dumps(event | {"cost_nanousd": 0}).encode())
    return record


def _held(value: bytes | None) -> list[str]:
    """How a dead letter may hold these bytes."""
    texts = [base64.b64encode(value or b"").decode()]
    with contextlib.suppress(UnicodeDecodeError):
        texts.append((value or b"").decode())
    return texts


class Hand:
    """A producer of the driver's own, straight to the broker, that keeps the rules of a sender."""

    def __init__(self, settings: Settings, ledger: Ledger, seed: int) -> None:
        self._settings, self._ledger = settings, ledger
        self._chance = random.Random(seed)
        self._numbers = count(1)
        self.poisoned: list[Place] = []
        """Where the poison on spend.usage lies."""
        self.garbage_payloads = {""}
        """What the dead letters of garbage may hold; nothing, where the record was null or too large."""

    async def resend(self) -> None:
        """A chunk twice, a second one, both again, a third."""
        who = f"{NAME}-{next(self._numbers)}"
        first, second, third = (self._chunk(who, 1 + n * CHUNK) for n in range(3))
        await self._send([*first, *first[-7:]])
        await self._send([*first, *second])
        await self._send([*first, *second, *second, *third, *third[:5]])
        self._settle([*first, *second, *third])

    async def interleave(self) -> None:
        """Two producers' events mixed, one of them resending while the other goes on."""
        one, other = (self._chunk(f"{NAME}-{next(self._numbers)}", 1) for _ in range(2))
        mixed = [event for pair in zip(one, other, strict=True) for event in pair]
        await self._send([*mixed, *one, *self._in_turn(one, other)])
        self._settle([*one, *other])

    async def poison(self, topic: str) -> None:
        """Records that cannot be read, on one of the topics."""
        name = self._settings.topic_prefix + f"spend.{topic}"
        good = encode_usage(self._event(f"{NAME}-poison", 1, self._chance.choice(KEYS), time.time()))
        records = [
            Record(b"k1", self._chance.randbytes(200), []),
            Record(b"k2", b"", []),
            Record(b"k3", good.value[:-20], good.headers),
            Record(b"k4", good.value, [("ce_type", b"dev.spendmeter.usage.v999")]),
            Record(b"k5", good.value.replace(b'"cost_nanousd":', b'"cost_nanousd":-'), good.headers),
            Record(b"\xff\xfe", b'{"event_id": 1e400}', []),
        ]
        async with producer(self._settings) as kafka:
            for record in records:
                place = await self._retry(kafka, name, record)
                if topic == "usage":
                    self.poisoned.append(place)

    async def garbage(self) -> None:
        """Generated records on every topic, about nobody. What the broker refuses, or loses, is no loss."""
        kafka = raw_producer(self._settings)
        await kafka.start()
        try:
            for batch in garbage(self._chance.randrange(2**31), GARBAGE_BATCHES):
                records = [_free(record) for record in batch.records]
                self.garbage_payloads |= {text for record in records for text in _held(record.value)}
                with contextlib.suppress(KafkaError):
                    partition = self._chance.choice(sorted(await kafka.partitions_for(batch.topic)))
                    await send_raw(kafka, batch.topic, partition, records, batch.codec)
        finally:
            await kafka.stop()

    async def _retry(self, kafka: AIOKafkaProducer, topic: str, record: Record) -> Place:
        for _ in range(ATTEMPTS):
            try:
                stored: RecordMetadata = await kafka.send_and_wait(
                    topic, key=record.key, value=record.value, headers=record.headers, partition=0
                )
                return Place(topic, stored.partition, stored.offset)
            except KafkaError:
                await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError(f"{topic} takes no records")

    async def _send(self, events: Chunk) -> None:
        """Send in order, all of it again until all of it is stored."""
        for _ in range(ATTEMPTS):
            try:
                async with producer(self._settings) as kafka:
                    sent = [await self._hand_over(kafka, event) for event in events]
                    await asyncio.gather(*sent)
                return
            except KafkaError:
                await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError("spend.usage takes no records")

    async def _hand_over(self, kafka: AIOKafkaProducer, event: UsageEvent) -> "asyncio.Future[object]":
        record = encode_usage(event)
        future: asyncio.Future[object] = await kafka.send(
            f"{self._settings.topic_prefix}spend.usage",
            key=record.key,
            value=record.value,
            headers=record.headers,
            partition=partition_of(event.key, self._settings.partitions),
        )
        return future

    def _in_turn(self, one: Chunk, other: Chunk) -> list[UsageEvent]:
        """Both in an order that keeps each one's own."""
        left, mixed = [list(one), list(other)], []
        while any(left):
            mixed.append(self._chance.choice([rest for rest in left if rest]).pop(0))
        return mixed

    def _chunk(self, who: str, first_seq: int) -> Chunk:
        chunk = []
        for seq in range(first_seq, first_seq + CHUNK):
            event = self._event(who, seq, self._chance.choice(KEYS), now := time.time())
            self._ledger.ask(Entry(str(event.event_id), NAME, event.key, event.cost_nanousd, now))
            chunk.append(event)
        return chunk

    def _event(self, who: str, seq: int, key: str, now: float) -> UsageEvent:
        at = datetime.fromtimestamp(now, UTC)
        return UsageEvent.model_validate(
            {
                "event_id": new_id(now),
                "producer_id": who,
                "seq": seq,
                "occurred_at": at,
                "started_at": at,
                "key": key,
                "model": "gpt-4o",
                "gateway": NAME,
                "cost_nanousd": self._chance.randrange(1, MAX_COST_NANOUSD),
                "cost_source": CostSource.LITELLM,
            }
        )

    def _settle(self, events: Chunk) -> None:
        for event in events:
            self._ledger.settle(str(event.event_id), to_unix_us(event.occurred_at), lost=False)
