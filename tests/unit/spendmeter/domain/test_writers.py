"""Who may write under a producer_id, by each record alone."""

from datetime import timedelta
from typing import Any

import pytest

from spendmeter.contract.dead_letter import Reason
from spendmeter.contract.records import MAX_AHEAD, encode_usage
from spendmeter.contract.signing import NO_KEYS, SigningKeys
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.writers import (
    MAX_EVENTS_PER_SECOND,
    MAX_SEQ,
    SEQ_AT_BIRTH,
    SIGNED,
    ForeignProducer,
    check_writer,
)
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.values.ids import uuid7
from tests.builders import NOON, usage

KEYS = SigningKeys(["k" * 32])
BORN = str(uuid7(int(NOON.timestamp() * 1000)))
HOUR = timedelta(hours=1)


def stored(event: UsageEvent, keys: SigningKeys = NO_KEYS, partition: int = 1) -> FetchedRecord:
    record = encode_usage(event)
    signature = keys.sign("spend.usage", partition, record.key, record.value)
    return FetchedRecord(
        "spend.usage", partition, 7, 0, 1, record.key, record.value, [*record.headers, *signature]
    )


def signer(event: UsageEvent, keys: SigningKeys = KEYS, at: Any = NOON, by: SigningKeys = NO_KEYS) -> str:
    return check_writer(stored(event, by), event, at, keys)


def test_what_bears_the_id_of_a_gateway_that_signs_and_no_signature_is_somebody_elses() -> None:
    event = usage(1, producer_id=BORN + SIGNED)

    with pytest.raises(ForeignProducer, match="signs its records") as refused:
        signer(event)

    assert (refused.value.reason, refused.value.producer_id) == (Reason.FOREIGN_PRODUCER, BORN + SIGNED)
    assert signer(event, by=KEYS) != ""


def test_a_copy_in_another_partition_is_somebody_elses() -> None:
    event = usage(1, producer_id=BORN + SIGNED)
    copied = stored(event, KEYS)
    copied.partition = 0

    with pytest.raises(ForeignProducer):
        check_writer(copied, event, NOON, KEYS)


def test_who_has_no_key_believes_as_before() -> None:
    assert signer(usage(1, producer_id=BORN + SIGNED), NO_KEYS) == ""
    assert signer(usage(1, producer_id="another meter"), KEYS) == ""


@pytest.mark.parametrize("age", [timedelta(), timedelta(days=3)], ids=str)
@pytest.mark.parametrize("ending", ["", SIGNED])
def test_a_gateway_has_sent_no_more_than_it_can_have(age: timedelta, ending: str) -> None:
    most = SEQ_AT_BIRTH + MAX_EVENTS_PER_SECOND * int(age.total_seconds())

    assert signer(usage(most, producer_id=BORN + ending), NO_KEYS, NOON + age) == ""
    with pytest.raises(ForeignProducer, match="beyond what it can have sent"):
        signer(usage(most + 1, producer_id=BORN + ending), NO_KEYS, NOON + age)


def test_a_gateway_whose_clock_was_wrong_is_not_taken_for_another() -> None:
    event = usage(SEQ_AT_BIRTH, producer_id=BORN)

    # Begun with a clock that was behind, ahead within bounds, and far ahead.
    for late in (timedelta(days=20_000), -MAX_AHEAD, -2 * MAX_AHEAD):
        assert signer(event, NO_KEYS, NOON + late) == ""
    assert signer(usage(MAX_SEQ, producer_id=BORN), NO_KEYS, NOON - 2 * MAX_AHEAD) == ""


@pytest.mark.parametrize(
    ("producer_id", "most"), [("replays/x", 1), ("corrections/x", MAX_SEQ), ("gw-1", MAX_SEQ), (".signed", 1)]
)
def test_what_is_no_gateway_of_ours_has_a_bound_too(producer_id: str, most: int) -> None:
    assert signer(usage(most, producer_id=producer_id), NO_KEYS) == ""
    with pytest.raises(ForeignProducer):
        signer(usage(MAX_SEQ + 1 if most > 1 else 2**62, producer_id=producer_id), NO_KEYS)


def test_what_is_signed_is_not_doubted_for_its_seq() -> None:
    assert signer(usage(2**62, producer_id=BORN + SIGNED), by=KEYS) != ""


def test_of_a_correction_it_is_said_who_signed_it() -> None:
    made = {"kind": "void", "corrects": usage().event_id, "producer_id": "corrections/1"}
    correction = usage(1, -5, **made)

    assert signer(correction) == ""
    assert signer(correction, by=KEYS) != ""
    # Of anybody else's usage nobody asks.
    assert signer(usage(1, producer_id="another meter"), by=KEYS) == ""
