"""The law of quick reading: what it takes, the model takes too, and to equal values."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spendmeter.contract.fast_json import event_of, read_fields
from spendmeter.contract.records import encode_usage
from spendmeter.contract.usage import UsageEvent, UsageKind
from tests.builders import usage

EVENT: dict[str, Any] = json.loads(encode_usage(usage()).value)
UUID_TEXT = "0190c7f2-7d23-7606-8a04-892f902b3a04"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = [
    *(
        "0",
        "1",
        "-0",
        "-1",
        "01",
        "+1",
        "1.0",
        "1e2",
        "-0.0",
        "1E400",
        "NaN",
        "Infinity",
        "1_0",
        "0x1",
        "tru",
    ),
    *(str(2**63 - 1), str(2**63), str(2**64), str(10**18 - 1), str(10**18), str(1 - 10**18), str(-(10**18))),
    *("9" * 4299, "9" * 4300, "9" * 4301),
]
TIMES = [
    *("2026-11-22T12:00:00Z", "2026-11-22T12:00:00z", "2026-11-22t12:00:00Z", "2026-11-22 12:00:00Z"),
    *("2026-11-22T12:00:60Z", "2026-11-22T23:59:60Z", "2026-11-22T24:00:00Z", "2026-11-22T12:00Z"),
    *("2026-11-22T12:00:00+00:00", "2026-11-22T12:00:00-00:00", "2026-11-22T12:00:00+14:00"),
    *("2026-11-22T12:00:00.1Z", "2026-11-22T12:00:00.123456789Z", "2026-11-22T12:00:00.9999999Z"),
    *("2026-11-22T12:00:00,5Z", "2026-11-22T12:00:00+05:30:15", "2026-11-22T12:00:00", "20261122T120000Z"),
    *("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01", "1969-12-31T23:59:59.999999Z"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"),
    *("2026-W47-7T12:00:00Z", "2026-02-29T00:00:00Z", "1795348800", ""),
]
UUIDS = [
    *(UUID_TEXT, UUID_TEXT.upper(), UUID_TEXT.replace("-", ""), f"{{{UUID_TEXT}}}", f"urn:uuid:{UUID_TEXT}"),
    *(f" {UUID_TEXT}", UUID_TEXT[:-1], UUID_TEXT.replace("-", "_"), UUID_TEXT.replace("-", "", 1)),
]
NAMES = ["usage", "correction", "void", "Void", "litellm", "success", "true", "\ud800", "\0"]
OTHERS = [
    "null",
    "true",
    "[]",
    "{}",
    '["a"]',
    '["a",null]',
    '{"a":"1","a":"2"}',
    '{"a":1}',
    '"\\uD83D\\uDE00"',
    "'a'",
]
ODD = [*NUMBERS, *(json.dumps(text) for text in (*TIMES, *UUIDS, *NAMES)), *OTHERS]
"""JSON text to put in place of a field's value, not always JSON at all."""


def is_read_alike(value: bytes) -> bool:
    """Whether it is read quickly; then the model must read it to the same."""
    fields = read_fields(value)
    if fields is None:
        return False
    try:
        by_the_model = UsageEvent.model_validate_json(value)
    except ValidationError as error:
        raise AssertionError(f"the model refuses what was read quickly: {value!r}") from error
    event = event_of(fields)
    assert event == by_the_model
    # Equal is not enough: True == 1, and a text equals a kind.
    assert repr(event) == repr(by_the_model)
    assert event.model_dump_json() == by_the_model.model_dump_json()
    return True


def written(fields: dict[str, str]) -> bytes:
    """An object of fields whose values are JSON text. A lone surrogate becomes bytes that are no UTF-8."""
    told = ",".join(f"{json.dumps(name)}:{text}" for name, text in fields.items())
    return f"{{{told}}}".encode(errors="surrogatepass")


GOOD = {name: json.dumps(value) for name, value in EVENT.items()}


@pytest.mark.parametrize("field", EVENT)
def test_an_event_with_an_odd_value_is_read_as_the_model_reads_it(field: str) -> None:
    for text in ODD:
        is_read_alike(written({**GOOD, field: text}))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted(EVENT)), json_values.map(json.dumps), min_size=1, max_size=2))
def test_an_event_with_any_fields_spoilt_is_read_as_the_model_reads_it(fields: dict[str, str]) -> None:
    is_read_alike(written({**GOOD, **fields}))


@pytest.mark.parametrize("kind", UsageKind)
@pytest.mark.parametrize("cost", [-1, 0])
@pytest.mark.parametrize("corrects", [None, UUID_TEXT])
def test_signs_and_references_are_judged_as_the_model_judges_them(
    kind: UsageKind, cost: int, corrects: str | None
) -> None:
    fields = {"kind": kind, "cost_nanousd": cost, "corrects": corrects}
    is_good = (cost >= 0 and corrects is None) if kind is UsageKind.USAGE else corrects is not None

    assert is_read_alike(json.dumps({**EVENT, **fields}).encode()) is is_good


@given(st.sets(st.sampled_from(sorted(EVENT))), st.dictionaries(st.text(), json_values, max_size=2))
def test_an_event_of_another_version_is_read_as_the_model_reads_it(
    missing: set[str], new: dict[str, object]
) -> None:
    known = {name: text for name, text in GOOD.items() if name not in missing}

    is_read_alike(written({**known, **{name: json.dumps(value) for name, value in new.items()}}))


@given(st.sampled_from(sorted(EVENT)), st.sampled_from(ODD), st.booleans())
def test_of_a_field_that_is_there_twice_the_same_one_counts(field: str, other: str, first: bool) -> None:
    rest = written({name: text for name, text in GOOD.items() if name != field})[1:]
    texts = (other, GOOD[field]) if first else (GOOD[field], other)
    twice = ",".join(f"{json.dumps(field)}:{text}" for text in texts)

    is_read_alike(f"{{{twice},".encode(errors="surrogatepass") + rest)


@settings(max_examples=500)
@given(st.data())
def test_damaged_bytes_are_read_as_the_model_reads_them(data: st.DataObject) -> None:
    good = encode_usage(usage(user="né\U0001f600", tags=["a\ud7ff", "\0"], prices={"input_token": "1"})).value
    at = data.draw(st.integers(0, len(good)))
    length = data.draw(st.integers(0, 3))
    instead = data.draw(
        st.binary(max_size=4)
        | st.sampled_from(
            [b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xc0\x80", b"\xef\xbb\xbf", b'"', b"\\", b"\n"]
        )
    )

    is_read_alike(good[:at] + instead + good[at + length :])


@given(st.binary() | json_values.map(json.dumps).map(str.encode))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"prices":' + b'{"a":' * 100_000)
def test_bytes_that_are_no_event_are_left_to_the_model(value: bytes) -> None:
    assert not is_read_alike(value)


@given(
    st.builds(
        usage,
        seq=st.integers(1, 2**63 - 1),
        cost_nanousd=st.integers(0, 10**18 - 1),
        occurred_at=st.datetimes(min_value=usage().occurred_at.replace(tzinfo=None)).map(
            lambda t: f"{t.isoformat()}Z"
        ),
        key=st.text(),
        user=st.none() | st.text(),
        tags=st.lists(st.text(), max_size=4),
        prices=st.dictionaries(st.text(), st.text(), max_size=3),
        total_tokens=st.integers(0, 2**63 - 1),
    )
)
def test_an_event_as_this_version_writes_it_is_read_quickly(event: UsageEvent) -> None:
    assert is_read_alike(encode_usage(event).value)
