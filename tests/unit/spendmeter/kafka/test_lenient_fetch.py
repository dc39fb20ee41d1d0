"""A batch with names of headers that are no text is read as aiokafka reads any other."""

from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.kafka.fetch import LenientBatch, LenientRecords, _records_of
from tests.raw_records import GZIP, LZ4, NO_COMPRESSION, SNAPPY, ZSTD, Raw, batch_bytes

CODECS = (NO_COMPRESSION, GZIP, SNAPPY, LZ4, ZSTD)
ODD = Raw(b"v", b"k", [(b"ce_type", b"t"), (b"\xff\xfe", None), (b"", b"\xff")], timestamp_ms=1_700)
PLAIN = Raw(None, None, [("ä".encode(), b"")], timestamp_ms=1_705)

some_bytes = st.none() | st.binary(max_size=200)
plain_records = st.builds(
    Raw,
    some_bytes,
    some_bytes,
    st.lists(st.tuples(st.text(max_size=20).map(str.encode), some_bytes), max_size=5),
    st.integers(0, 2**41),
)


def read(records: Any) -> list[list[Any]]:
    batches = []
    while records.has_next():
        batches.append([fields_of(record) for record in records.next_batch()])
    return batches


def fields_of(record: Any) -> tuple[Any, ...]:
    kind, stamp = record.timestamp_type, record.timestamp
    return record.offset, stamp, kind, record.key, record.value, record.headers, record.checksum


@pytest.mark.parametrize("codec", CODECS)
def test_a_name_that_is_no_text_is_shown_and_its_neighbours_are_as_they_were(codec: int) -> None:
    fetched = batch_bytes([PLAIN], codec) + batch_bytes([PLAIN, ODD, PLAIN], codec) + batch_bytes([PLAIN])
    with pytest.raises(UnicodeDecodeError):
        read(MemoryRecords(fetched))
    first, odd, last = read(LenientRecords(fetched))
    assert first == last == [(0, 1_705, 0, None, None, [("ä", b"")], None)]
    headers = [("ce_type", b"t"), ("\\xff\\xfe", None), ("", b"\xff")]
    assert odd[1] == (1, 1_700, 0, b"k", b"v", headers, None)
    assert [record[3:] for record in (odd[0], odd[2])] == [first[0][3:]] * 2


@given(st.lists(plain_records, min_size=1, max_size=5), st.sampled_from(CODECS))
def test_what_the_library_reads_is_read_alike(records: list[Raw], codec: int) -> None:
    fetched = batch_bytes(records, codec)
    expected = read(MemoryRecords(fetched))
    assert read(LenientRecords(fetched)) == expected
    batch = LenientRecords(fetched).next_batch()
    assert isinstance(batch, LenientBatch)
    assert [fields_of(record) for record in _records_of(batch._batch, batch._raw)] == expected[0]
