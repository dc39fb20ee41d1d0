"""Records as no client of ours writes them: any bytes for names of headers, null values, any time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from spendmeter.kafka.client import connection
from spendmeter.settings import Settings

NO_COMPRESSION, GZIP, SNAPPY, LZ4, ZSTD = range(5)
MAX_REQUEST_BYTES = 16 * 1024 * 1024


class Raw(NamedTuple):
    """A record to the byte."""

    value: bytes | None
    key: bytes | None = b"k1"
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp_ms: int | None = None


class _Name(str):
    """A header's name that encodes as it is told to."""

    __slots__ = ("raw",)
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> "_Name":
        name = cls()
        name.raw = raw
        return name

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self.raw


def batch_bytes(records: Sequence[Raw], codec: int = NO_COMPRESSION) -> bytes:
    """The records as one batch of message format 2."""
    return bytes(_filled(records, codec).build())


def _filled(records: Sequence[Raw], codec: int) -> Any:
    builder = _DefaultRecordBatchBuilderPy(2, codec, False, -1, -1, 0, MAX_REQUEST_BYTES)
    for offset, record in enumerate(records):
        headers = [(_Name.of(name), value) for name, value in record.headers]
        stamp = record.timestamp_ms
        builder.append(offset, stamp, record.key, record.value, headers)
    return builder


def raw_producer(settings: Settings) -> AIOKafkaProducer:
    """A producer for `send_raw`: without idempotence, which looks into a batch."""
    return AIOKafkaProducer(**connection(settings), acks="all", max_request_size=MAX_REQUEST_BYTES)


async def send_raw(
    kafka: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Raw], codec: int = NO_COMPRESSION
) -> int:
    """Store the records as one batch; returns the offset of the first. Raises KafkaError where refused."""
    batch: Any = BatchBuilder(MAX_REQUEST_BYTES, codec)
    batch._builder = _filled(records, codec)
    batch._relative_offset = len(records)
    stored = await (await kafka.send_batch(batch, topic, partition=partition))
    offset: int = stored.offset
    return offset
