"""Records: what is read, and what becomes a dead letter instead of an exception nobody expects."""

import json
from datetime import timedelta
from typing import Any

import pytest

from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.records import (
    MAX_AHEAD,
    MAX_DETAIL_CHARACTERS,
    InvalidRecord,
    decode,
    decode_usage,
    encode_usage,
)
from spendmeter.contract.usage import UsageEvent
from tests.builders import NOON, usage

MICROSECOND = timedelta(microseconds=1)
GOOD = encode_usage(usage())


def changed(**fields: Any) -> bytes:
    """The good event's JSON with some fields replaced; None takes a field out."""
    value = {**json.loads(GOOD.value), **fields}
    return json.dumps({name: given for name, given in value.items() if given is not None}).encode()


def refusal(value: bytes | None, headers: Any = ()) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as refused:
        decode(UsageEvent, value, headers)
    return refused.value


def test_a_record_is_read_as_what_was_written() -> None:
    assert decode(UsageEvent, GOOD.value, GOOD.headers) == usage()


def test_a_record_without_a_type_is_version_1_of_what_its_topic_holds() -> None:
    others = [(name, text) for name, text in GOOD.headers if name != "ce_type"]

    assert decode(UsageEvent, GOOD.value, others) == usage()
    assert decode(UsageEvent, GOOD.value) == usage()


def test_a_field_that_this_version_does_not_know_is_ignored() -> None:
    assert decode(UsageEvent, changed(new_in_v1_1={"a": [1]})) == usage()


@pytest.mark.parametrize(
    ("ce_type", "shown"),
    [
        (b"dev.spendmeter.usage.v2", "'dev.spendmeter.usage.v2'"),
        (b"dev.spendmeter.budget.v1", "'dev.spendmeter.budget.v1'"),
        (b"DEV.SPENDMETER.USAGE.V1", "'DEV.SPENDMETER.USAGE.V1'"),
        (b"", "''"),
        (b"\xff", "'\ufffd'"),
        # Kafka's headers may have no value at all.
        (None, "''"),
    ],
)
def test_a_record_of_another_schema_or_version_is_a_dead_letter(ce_type: bytes | None, shown: str) -> None:
    refused = refusal(GOOD.value, [("ce_type", ce_type)])

    assert refused.reason is Reason.UNKNOWN_SCHEMA
    assert refused.detail == f"ce_type is {shown}; this reader knows dev.spendmeter.usage.v1"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"not json",
        b"\xff\xfe",
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b"9" * 5_000,
        GOOD.value[:-1],
        GOOD.value + b"x",
    ],
)
def test_what_is_no_json_is_a_dead_letter(value: bytes | None) -> None:
    assert refusal(value).reason is Reason.NOT_JSON


@pytest.mark.parametrize("value", [b"null", b"5", b"[]", b'"text"', b"{}"])
def test_json_that_is_no_event_is_a_dead_letter(value: bytes) -> None:
    assert refusal(value).reason is Reason.INVALID


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (
            {"cost_nanousd": -1},
            "value: cost_nanousd of a usage event is negative; send kind=correction instead",
        ),
        ({"cost_nanousd": None}, "cost_nanousd: Field required"),
        ({"cost_nanousd": 1.5}, "cost_nanousd: Input should be a valid integer"),
        ({"seq": 0}, "seq: Input should be greater than or equal to 1"),
        ({"cost_source": "magic"}, "cost_source: Input should be 'litellm', 'pricebook', "),
        ({"occurred_at": "2026-11-22T10:00:00"}, "occurred_at: '2026-11-22T10:00:00' has no UTC offset"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at: 0001-01-01T00:00:00+14:00 lies outside"),
        ({"occurred_at": "0001-01-01T00:00:00Z"}, "occurred_at: 0001-01-01T00:00:00+00:00 lies before 1970"),
        ({"occurred_at": 1_795_348_800}, "occurred_at: a time is text"),
    ],
)
def test_a_field_that_cannot_be_is_a_dead_letter_that_names_it(fields: dict[str, Any], detail: str) -> None:
    refused = refusal(changed(**fields))

    assert refused.reason is Reason.INVALID
    assert refused.detail.startswith(detail)
    assert "Value error" not in refused.detail


def test_the_first_few_of_many_mistakes_are_told() -> None:
    refused = refusal(b"{}")

    assert refused.detail.startswith("event_id: Field required; producer_id: Field required; ")
    assert refused.detail.endswith("; and 2 more")


def test_a_detail_is_bounded_however_much_it_quotes() -> None:
    with pytest.raises(InvalidRecord) as refused:
        decode(Budget, json.dumps({"id": "-" * 1_000_000}).encode())

    assert len(refused.value.detail) == MAX_DETAIL_CHARACTERS
    assert len(str(refused.value)) < MAX_DETAIL_CHARACTERS + 100


def test_an_event_may_be_ahead_of_the_broker_by_an_hour_and_no_more() -> None:
    at_the_bound = encode_usage(usage(occurred_at=NOON + MAX_AHEAD))
    beyond = encode_usage(usage(occurred_at=NOON + MAX_AHEAD + MICROSECOND))

    assert decode_usage(at_the_bound.value, at_the_bound.headers, NOON).occurred_at == NOON + MAX_AHEAD
    with pytest.raises(InvalidRecord) as refused:
        decode_usage(beyond.value, beyond.headers, NOON)

    assert refused.value.reason is Reason.FROM_THE_FUTURE
    assert refused.value.detail == (
        "occurred_at 2026-11-22T13:00:00.000001Z is more than 1:00:00 after the broker's"
        " 2026-11-22T12:00:00.000000Z; set the gateway's clock"
    )


def test_an_event_may_be_as_late_as_it_likes() -> None:
    late = encode_usage(usage(occurred_at="1970-01-01T00:00:00Z"))

    assert decode_usage(late.value, late.headers, NOON).occurred_at.year == 1970
