"""Whatever the contract allows, no record that it leads to outgrows what Kafka takes."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from spendmeter.contract.alert import MAX_REASON_CHARS, Alert, AlertDelivery, DeliveryOutcome
from spendmeter.contract.budget import ANY, MAX_RAISES, MAX_THRESHOLDS, Budget
from spendmeter.contract.dead_letter import MAX_HELD_BYTES, MAX_HELD_HEADERS, NotHeld, Reader, Reason
from spendmeter.contract.decision import MAX_NAMED, Decision, Why
from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, NanoUsd
from spendmeter.contract.records import (
    InvalidRecord,
    decode_usage,
    encode_alert,
    encode_budget,
    encode_dead_letter,
    encode_decision,
    encode_delivery,
    encode_opening,
    encode_signal,
    encode_total,
    encode_usage,
)
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import MAX_DEAD_LETTER_BYTES
from spendmeter.contract.total import HISTORY, Opening, Total
from spendmeter.contract.usage import MAX_PRICES, MAX_TAGS, UsageEvent
from spendmeter.contract.wire import MAX_TEXT_CHARS
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.domain.opening_balance import MAX_KEPT, OpeningBalance
from spendmeter.domain.window import window_of
from spendmeter.kafka.client import MAX_RECORD_BYTES, record_bytes
from spendmeter.kafka.fetch import FetchedRecord
from spendmeter.settings import MAX_PARTITIONS
from spendmeter.topics.dead_letters import dead_letter_of
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter_stream.judge.alerts import crossings
from spendmeter_stream.judge.merging import OpeningBalances
from spendmeter_stream.state import (
    AccountState,
    AccountWindow,
    Burn,
    ChangelogEntry,
    CounterKey,
    PartitionSum,
    TotalComponent,
)
from tests.builders import NOON, budget, usage

LARGEST = 2**63 - 1
MONEY = NanoUsd(LIMIT_OF_AMOUNTS_NANOUSD)
SHAPE = "f" * 8
OF_ALL = dict.fromkeys(range(MAX_PARTITIONS), LARGEST)
# Twelve bytes in an account's name; six in JSON; four in both key and text.
WORST = {"percent-encoded": "\U0001f600" * MAX_TEXT_CHARS, "escaped": "\0" * MAX_TEXT_CHARS}
TEXTS = [name for name, field in UsageEvent.model_fields.items() if field.annotation in (str, str | None)]
ID = "b" * 200


@pytest.fixture(params=list(WORST.values()), ids=list(WORST))
def worst(request: Any) -> str:
    text: str = request.param
    return text


def event_of(text: str) -> UsageEvent:
    prices = {f"{n:03}" + text[:125]: text[:128] for n in range(MAX_PRICES)}
    tags = tuple(f"{n:03}" + text[3:] for n in range(MAX_TAGS))
    return usage(LARGEST, MONEY, **dict.fromkeys(TEXTS, text), tags=tags, prices=prices)


def budget_of(text: str, **fields: Any) -> Budget:
    return budget(
        **{
            "id": ID,
            "match": dict.fromkeys(DIMENSIONS, ANY),
            "limit_nanousd": 1,
            "warn_at": [n / 200 for n in range(1, MAX_THRESHOLDS + 1)],
            "raises": [{"amount_nanousd": 1, "until": NOON}] * MAX_RAISES,
            "replaces": text,
            "updated_by": text,
            **fields,
        }
    )


def account_of(text: str) -> str:
    accounts = BudgetBook([budget_of(text)]).accounts_of(subject_of(event_of(text)))
    assert len(accounts) == MAX_TAGS, "one for each tag"
    return accounts[0].name


def signal_of(text: str) -> Signal:
    return Signal(
        budget_id=ID,
        account=account_of(text),
        subject=dict.fromkeys(DIMENSIONS, text),
        window_start=NOON,
        window_end=NOON + timedelta(days=1),
        limit_nanousd=MONEY,
        spent_nanousd=MONEY,
        state="exceeded",
        watermark=OF_ALL,
        revision=LARGEST,
        version=LARGEST,
        cause_event_id=UUID(int=1),
        emitted_at=NOON,
    )


def delivery_of(text: str, alert: Alert) -> AlertDelivery:
    return AlertDelivery(
        route=text,
        alert_id=alert.alert_id,
        outcome=DeliveryOutcome.HELD,
        at=NOON,
        reason=text[:MAX_REASON_CHARS],
        due_at=NOON,
        alert=alert,
    )


def fits(record: Any, at_most: int = MAX_RECORD_BYTES) -> None:
    assert record_bytes(record.key, record.value, getattr(record, "headers", ())) <= at_most


def test_an_event_and_a_budget_fit(worst: str) -> None:
    fits(encode_usage(event_of(worst)))
    fits(encode_budget(budget_of(worst, match=dict.fromkeys(DIMENSIONS, worst))))


def test_totals_and_openings_fit(worst: str) -> None:
    total = Total(
        account=account_of(worst),
        window_start=NOON,
        source_partition=HISTORY,
        spent_nanousd=MONEY,
        events=LARGEST,
        first_offset=0,
        last_offset=LARGEST,
        last_event_id=UUID(int=1),
        before=OF_ALL,
        shape=SHAPE,
    )
    fits(encode_total(total, NOON))
    opening = Opening(
        budget_id=ID, shape=SHAPE, source_partition=HISTORY, first_offset=LARGEST, before=OF_ALL
    )
    fits(encode_opening(opening, NOON))


def test_signals_and_the_alerts_of_them_fit(worst: str) -> None:
    signal = signal_of(worst)
    fits(encode_signal(signal))
    alerts = list(crossings(AccountState(), budget_of(worst), signal))
    assert len(alerts) > MAX_THRESHOLDS
    for alert in alerts:
        fits(encode_alert(alert))
        fits(encode_delivery(delivery_of(worst, alert)))
    assert {type(alert) for alert in alerts} == {Alert}


def test_a_decision_fits(worst: str) -> None:
    decision = Decision(
        decision_id=UUID(int=1),
        decided_at=NOON,
        gateway=worst,
        why=Why.LIMIT_REACHED,
        name=worst,
        message=worst * 4,
        budget_id=ID,
        account=account_of(worst),
        watermark=OF_ALL,
        producer_id=worst,
        pending=[UUID(int=n) for n in range(MAX_NAMED)],
    )
    fits(encode_decision(decision))


def test_what_the_stream_remembers_fits(worst: str) -> None:
    account = account_of(worst)
    parts: dict[int | str, TotalComponent] = {
        n: TotalComponent(LARGEST, MONEY, LARGEST, LARGEST, SHAPE) for n in (*range(MAX_PARTITIONS), HISTORY)
    }
    told = frozenset(f"threshold/{fraction}" for fraction in budget_of(worst).warn_at)
    state = AccountState(
        parts,
        UUID(int=1),
        told,
        True,
        LARGEST,
        Burn(LARGEST, LARGEST, 1.5e300),
        held=OpeningBalance(OF_ALL, SHAPE, NOON),
    )
    fits(ChangelogEntry(b"a|" + AccountWindow(account, NOON).suffix(), state.value()))
    tally = PartitionSum(MONEY, LARGEST, LARGEST, LARGEST, UUID(int=1), NOON)
    fits(ChangelogEntry(b"t|" + CounterKey(account, NOON, SHAPE).suffix(), tally.value()))
    takings = OpeningBalances()
    for n in range(MAX_KEPT + 1):
        takings.apply(
            Total(
                account=ID,
                window_start=NOON + timedelta(days=n),
                source_partition=HISTORY,
                spent_nanousd=NanoUsd(0),
                events=0,
                first_offset=0,
                last_offset=LARGEST,
                before=OF_ALL,
                shape=f"{n:08}",
                revision=n,
            )
        )
    (entry,) = takings.changes()
    fits(entry)


@pytest.mark.parametrize("size", [0, 1_000, MAX_HELD_BYTES // 2, MAX_HELD_BYTES, MAX_HELD_BYTES + 1])
@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"a"])
@pytest.mark.parametrize("header", ["\0", "\U0001f600", "a"])
def test_a_letter_of_any_record_fits_its_topic(size: int, byte: bytes, header: str) -> None:
    headers: list[tuple[str, bytes | None]] = [
        (f"{n}{header * 200_000}", header.encode() * 2_000) for n in range(2 * MAX_HELD_HEADERS)
    ]
    record = FetchedRecord("spend.usage", 0, LARGEST, 0, 1, byte, byte * size, headers)
    invalid = InvalidRecord(Reason.INVALID, header * 10_000)
    letter = dead_letter_of(record, invalid, "c" * 200, Reader.STREAM, NOON)
    fits(encode_dead_letter(letter), MAX_DEAD_LETTER_BYTES)
    if size < MAX_HELD_BYTES // 2:
        assert letter.record_bytes() == (byte, byte * size)
    if size > MAX_HELD_BYTES:
        with pytest.raises(NotHeld):
            letter.record_bytes()


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_at_its_bound_is_an_event_and_one_longer_is_none(name: str) -> None:
    fields: Any = {name: "x" * MAX_TEXT_CHARS}
    event = usage(**fields)
    value = encode_usage(event).value
    assert decode_usage(value, (), NOON) == event
    longer = value.replace(b"x" * MAX_TEXT_CHARS, b"x" * (MAX_TEXT_CHARS + 1))
    with pytest.raises(InvalidRecord, match=f"{name}: String should have at most 512 characters"):
        decode_usage(longer, (), NOON)


@pytest.mark.parametrize(
    ("name", "at_bound", "beyond"),
    [
        ("tags", ["t"] * MAX_TAGS, ["t"] * (MAX_TAGS + 1)),
        ("tags", ["t" * MAX_TEXT_CHARS], ["t" * (MAX_TEXT_CHARS + 1)]),
        ("prices", {str(n): "1" for n in range(MAX_PRICES)}, {str(n): "1" for n in range(MAX_PRICES + 1)}),
        ("prices", {"p" * 128: "1" * 128}, {"p" * 129: "1"}),
        ("prices", {"p": "1" * 128}, {"p": "1" * 129}),
    ],
)
def test_lists_have_bounds_too(name: str, at_bound: Any, beyond: Any) -> None:
    value = encode_usage(usage(**{name: at_bound})).value
    assert decode_usage(value, (), NOON) == usage(**{name: at_bound})
    with pytest.raises(ValidationError):
        usage(**{name: beyond})


def test_a_budget_matches_no_text_that_an_event_cannot_have() -> None:
    assert window_of(budget(match={"user": "u" * MAX_TEXT_CHARS}), NOON) is not None
    with pytest.raises(ValidationError, match=r"match\.model has 513 characters; 512 at most"):
        budget(match={"model": "a" + "*" * MAX_TEXT_CHARS})
