"""Fetching: any record can be read, and costs a struct instead of a dataclass.

Kafka accepts any bytes as the name of a header. aiokafka 0.14.0 then raises UnicodeDecodeError in the middle
of a fetch, before our code sees the record, and again at each attempt: the reader of that partition is stuck.
Only such a batch is read again by the code below, which shows bytes that are not text as `\\xff`.

aiokafka 0.14.0 spends a sixth of a fetch on its `ConsumerRecord`. Everything else stays aiokafka's:
checksums, control batches, aborted transactions, holes of compaction, positions. That version is pinned, and
tests/integration/kafka/test_fetched.py reads the same log in both ways.

Source: Kafka's protocol, "Record Batch" and "Record" of message format 2.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT, _RECORDS_AT = 8, 61
"""Positions in a batch: its length, which counts from after itself, and its first record."""
_LENGTH_BYTES = 4
_COUNT_AT = 57
_CODECS = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_LOG_APPEND_TIME = 1


class LenientRecord(NamedTuple):
    """The attributes of aiokafka's DefaultRecord."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def checksum(self) -> None:
        """Of a single record there is none since Kafka 0.11."""


class LenientBatch:
    """aiokafka's batch, but its records can be read whatever the names of their headers."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_records_of(self._batch, self._raw))


class LenientRecords:
    """Replaces aiokafka's MemoryRecords: the batches of one fetched partition."""

    def __init__(self, fetched: bytes) -> None:
        self._records = MemoryRecords(fetched)
        self._fetched = memoryview(fetched)
        self._at = 0

    def has_next(self) -> bool:
        more: bool = self._records.has_next()
        return more

    def size_in_bytes(self) -> int:
        size: int = self._records.size_in_bytes()
        return size

    def next_batch(self) -> Any:
        start = self._at
        at = start + _LENGTH_AT
        self._at = at + _LENGTH_BYTES + int.from_bytes(self._fetched[at : at + _LENGTH_BYTES], "big")
        batch: Any = self._records.next_batch()
        # A message before format 2, and a control record, have no headers to read.
        if batch is None or batch.is_control_batch or not hasattr(batch, "base_offset"):
            return batch
        return LenientBatch(batch, self._fetched[start : self._at])


def read_any_header() -> None:
    """From now on every consumer of this process reads records with header names that are not text."""
    fetcher.MemoryRecords = LenientRecords


def _records_of(batch: Any, raw: memoryview) -> list[LenientRecord]:
    """All records of the batch; aiokafka has checked its CRC."""
    count = int.from_bytes(raw[_COUNT_AT:_RECORDS_AT], "big")
    decompress = _CODECS.get(batch.compression_type)
    body = bytes(raw[_RECORDS_AT:])
    reader = _Reader(decompress(body) if decompress is not None else body)
    return [_record(batch, reader) for _ in range(count)]


def _record(batch: Any, reader: "_Reader") -> LenientRecord:
    reader.varint()  # the record's length
    reader.skip(1)  # its attributes, of which there are none
    stamp_delta, offset_delta = reader.varint(), reader.varint()
    is_broker_time = batch.timestamp_type == _LOG_APPEND_TIME
    key, value = reader.field(), reader.field()
    headers = [
        ((reader.field() or b"").decode(errors="backslashreplace"), reader.field())
        for _ in range(reader.varint())
    ]
    return LenientRecord(
        batch.base_offset + offset_delta,
        batch.max_timestamp if is_broker_time else batch.first_timestamp + stamp_delta,
        batch.timestamp_type,
        key,
        value,
        headers,
    )


class _Reader:
    """Reads the fields of records one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def skip(self, count: int) -> None:
        self._at += count

    def varint(self) -> int:
        """A zigzag integer, seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7

    def field(self) -> bytes | None:
        """Bytes behind their length; None where that is -1."""
        length = self.varint()
        if length < 0:
            return None
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]


class FetchedRecord(msgspec.Struct, gc=False):
    """The attributes of aiokafka's ConsumerRecord. Not tracked by the collector: it holds text and
    numbers.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]

    @property
    def checksum(self) -> None:
        """Of a single record there is none since Kafka 0.11."""

    @property
    def serialized_key_size(self) -> int:
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        return -1 if self.value is None else len(self.value)


class FetchedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """One partition's part of a fetch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        deserializers = self._key_deserializer, self._value_deserializer
        assert deserializers == (None, None), "our records are bytes"

    def __iter__(self) -> Iterator[FetchedRecord]:
        # aiokafka's own iterator, without a call around each step of it.
        records: Iterator[FetchedRecord] = self._records_iterator
        return records

    def _consumer_record(self, tp: tuple[str, int], record: Any) -> FetchedRecord:
        return FetchedRecord(
            tp[0],
            tp[1],
            record.offset,
            record.timestamp,
            record.timestamp_type,
            record.key,
            record.value,
            record.headers,
        )


def fetch_cheaply() -> None:
    """From now on every consumer of this process returns FetchedRecords; none may have deserializers."""
    fetcher.PartitionRecords = FetchedRecords
    read_any_header()
