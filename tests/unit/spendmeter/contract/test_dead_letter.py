"""The dead letter: it holds any record, and can always be sent."""

from typing import Any

import pytest

from spendmeter.contract.dead_letter import (
    MAX_HEADER_CHARACTERS,
    MAX_HELD_BYTES,
    MAX_HELD_HEADERS,
    DeadLetter,
    NotHeld,
    hold,
    hold_headers,
)
from spendmeter.contract.records import encode_dead_letter
from spendmeter.contract.topics import CONFIG, Topic
from tests.builders import NOON

# Kafka's own framing of a record and a batch, and our headers, are far below this.
ROOM_FOR_FRAMING_BYTES = 64 * 1024


def letter(key: bytes | None, value: bytes | None, **fields: Any) -> DeadLetter:
    return DeadLetter.model_validate(
        {
            "source_topic": "spend.usage",
            "source_partition": 2,
            "source_offset": 77,
            "reason": "not_json",
            "detail": "expected value at line 1 column 1",
            "component": "stream-1",
            "failed_at": NOON,
            **fields,
            **hold(key, value),
        }
    )


def test_a_letter_is_named_by_where_the_record_stood() -> None:
    assert letter(b"k", b"v").id == "spend.usage:2:77"


def test_text_is_held_readable() -> None:
    assert hold("schlüssel".encode(), b'{"a": 1}') == {
        "key": "schlüssel",
        "payload": '{"a": 1}',
        "encoding": "utf-8",
    }


@pytest.mark.parametrize(("key", "value"), [(b"\xff", b"text"), (b"text", b"\xff\x00")])
def test_bytes_that_are_no_text_are_held_in_base64(key: bytes, value: bytes) -> None:
    held = letter(key, value)

    assert held.encoding == "base64"
    assert held.record_bytes() == (key, value)


def test_a_record_without_key_and_value_is_held_as_an_empty_one() -> None:
    assert letter(None, None).record_bytes() == (b"", b"")


def test_the_largest_record_is_held_and_one_byte_more_is_not() -> None:
    assert letter(b"", b"x" * MAX_HELD_BYTES).record_bytes() == (b"", b"x" * MAX_HELD_BYTES)

    too_large = letter(b"k", b"x" * MAX_HELD_BYTES)

    assert (too_large.encoding, too_large.key, too_large.payload) == ("absent", "", "")
    with pytest.raises(NotHeld, match=r"read it from spend\.usage:2:77 while that topic keeps it"):
        too_large.record_bytes()


@pytest.mark.parametrize("worst", [b"\xff", b"\x01", b'"', b"\\", "ü".encode(), b"x"])
def test_the_letter_of_any_record_fits_its_topic(worst: bytes) -> None:
    """JSON writes some bytes with six; a letter that the broker refuses would stop the stream for ever."""
    value = worst * (MAX_HELD_BYTES // len(worst))
    headers = hold_headers([(f"header-{n}", b"\x01" * 100_000) for n in range(1_000)])

    held = letter(b"", value, headers=headers)
    record = encode_dead_letter(held)

    room = int(CONFIG[Topic.DEAD_LETTERS]["max.message.bytes"])
    assert len(record.key) + len(record.value) + ROOM_FOR_FRAMING_BYTES <= room
    assert DeadLetter.model_validate_json(record.value).record_bytes() == (b"", value)


def test_headers_are_shown_as_text_up_to_a_bound() -> None:
    headers = [("a", b"1"), ("no value", None), ("no text", b"\xff"), ("long", b"x" * 2_000)]

    assert hold_headers(headers) == {
        "a": "1",
        "no value": "",
        "no text": "\ufffd",
        "long": "x" * MAX_HEADER_CHARACTERS,
    }
    assert len(hold_headers([(str(n), b"") for n in range(MAX_HELD_HEADERS + 1)])) == MAX_HELD_HEADERS
