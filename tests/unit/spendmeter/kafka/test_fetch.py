"""Records of a fetch, held against aiokafka's own over batches that a broker seldom makes."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from spendmeter.kafka.fetch import FetchedRecords

HEADERS = [("ce_type", b"one"), ("ce_id", b""), ("ce_type", b"again")]
NO_COMPRESSION, LZ4 = 0, 3


def batch(base: int, offsets: Sequence[int], compression: int = NO_COMPRESSION) -> bytes:
    """Records at these distances from the first offset, as compaction leaves them."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    for offset in offsets:
        value = None if offset % 5 == 4 else b"v" * offset
        builder.append(offset, 1_000 + offset, None if offset % 3 else b"k", value, HEADERS[: offset % 4])
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, base)  # not under the checksum
    return bytes(built)


def both(log: bytes, fetch_offset: int) -> tuple[Any, Any]:
    """Ours, and the library's."""

    def of(kind: Any) -> Any:
        return kind(TopicPartition("t", 3), MemoryRecords(log), [], fetch_offset, None, None, True, 0)

    return of(FetchedRecords), of(PartitionRecords)


@pytest.mark.parametrize("fetch_offset", [0, 1, 2, 9, 10, 11, 40])
def test_compacted_batches_are_read_as_by_the_library(fetch_offset: int) -> None:
    log = batch(0, [0, 2, 3, 9]) + batch(10, [1, 4, 5, 8], LZ4) + batch(30, [2])
    ours, theirs = both(log, fetch_offset)
    expected = list(theirs)
    read = list(ours)

    assert expected or fetch_offset == 40
    assert [told(record) for record in read] == [told(record) for record in expected]
    assert ours.next_fetch_offset == theirs.next_fetch_offset


def test_between_two_records_the_position_is_the_librarys() -> None:
    ours, theirs = both(batch(0, [0, 2, 3]) + batch(10, [1]), 0)
    for record, expected in zip(ours, theirs, strict=True):
        assert record.offset == expected.offset
        assert ours.next_fetch_offset == theirs.next_fetch_offset == record.offset + 1


def test_a_batch_whose_checksum_is_wrong_is_refused_after_those_before_it() -> None:
    broken = bytearray(batch(10, [0, 1]))
    broken[-1] ^= 1
    ours, _ = both(batch(0, [0]) + bytes(broken), 0)
    records = iter(ours)

    assert next(records).offset == 0
    with pytest.raises(CorruptRecordException):
        next(records)


def test_a_consumer_that_would_decode_its_records_is_refused() -> None:
    with pytest.raises(AssertionError):
        FetchedRecords(TopicPartition("t", 3), MemoryRecords(b""), [], 0, None, bytes.decode, True, 0)


def told(record: Any) -> tuple[Any, ...]:
    """Every field of aiokafka's record."""
    return (
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.timestamp_type,
        record.key,
        record.value,
        record.checksum,
        record.serialized_key_size,
        record.serialized_value_size,
        tuple(record.headers),
    )
