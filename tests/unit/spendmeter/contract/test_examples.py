"""The contract as bytes: what is written today is what spendmeter/contract/examples shows.

A test that fails here says that the wire has changed. If that is meant, change the example too, and
think of every reader that is older than the change.
"""

import json
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from spendmeter.contract.alert import Alert, AlertDelivery, AlertKind, DeliveryOutcome, alert_id
from spendmeter.contract.budget import Action, Budget, Enforcement, Raise
from spendmeter.contract.dead_letter import (
    DeadLetter,
    Reader,
    Reason,
    Resolution,
    hold,
    hold_headers,
    not_held,
)
from spendmeter.contract.decision import Decision, Why
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.contract.provider_object import ObjectKind, ProviderObject, object_event_id
from spendmeter.contract.records import (
    Record,
    decode,
    encode_alert,
    encode_budget,
    encode_dead_letter,
    encode_decision,
    encode_delivery,
    encode_object,
    encode_opening,
    encode_signal,
    encode_total,
    encode_usage,
)
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import Opening, Total
from spendmeter.contract.usage import CREATOR_UNKNOWN, CostSource, Doubt, Status, UsageEvent, UsageKind
from spendmeter.contract.wire import Wire
from spendmeter.values.times import parse_time

EXAMPLES = files("spendmeter.contract") / "examples"
KEY = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ACCOUNT = f"member-month|key={KEY}&team=search%20%26%20ads"
EVENT_ID = UUID("019a2c5e-5c00-7abc-8def-0123456789ab")
FINISHED = parse_time("2026-11-22T10:00:07.250000Z")
INCARNATION = "tQyP5J8dT8qcUW346NUhow"
MONTH, NEXT_MONTH = parse_time("2026-10-31T23:00:00Z"), parse_time("2026-11-30T23:00:00Z")

USAGE = UsageEvent(
    event_id=EVENT_ID,
    kind=UsageKind.CORRECTION,
    corrects=UUID("019a2c5e-0000-7000-8000-000000000001"),
    producer_id="gateway-1/4711/019a2c00",
    seq=1042,
    occurred_at=FINISHED,
    started_at=parse_time("2026-11-22T10:00:05Z"),
    key=KEY,
    key_alias="ann's notebook",
    user="ann",
    team="search & ads",
    organization="acme",
    project="ranking",
    end_user="customer-17",
    tags=("batch", "nightly"),
    user_alias="Ann",
    user_email="ann@example.com",
    team_alias="Search & Ads",
    organization_alias="Acme Inc.",
    project_alias="Ranking",
    model="gpt-4o-mini-2024-07-18",
    model_group="gpt-4o-mini",
    provider="openai",
    deployment="openai-eu-2",
    call_type="acompletion",
    session="session-5",
    gateway="gateway 1",
    input_tokens=1200,
    output_tokens=300,
    cache_read_tokens=1000,
    cache_write_tokens=100,
    reasoning_tokens=120,
    total_tokens=1500,
    cost_nanousd=NanoUsd(-285_000),
    cost_source=CostSource.PRICEBOOK,
    prices={"input_token": "0.00000015", "output_token": "0.0000006", "version": "2026-11-01"},
    cost_doubt=Doubt.BELOW_TOKENS,
    status=Status.FAILURE,
    estimated=True,
    streamed=True,
    cache_hit=True,
    duration_ms=2250,
    call_id="6f3f0c1e-9d3c-4c1e-8f5e-2f1f6d0a7a10",
    response_id="chatcmpl-Aq1",
    reason="the provider refunded it",
    recorded_by="ann",
)
BUDGET = Budget(
    id="member-month",
    match={"team": "search & ads", "key": "*"},
    limit_nanousd=from_usd("25"),
    period="month",
    timezone="Europe/Berlin",
    starts_at=parse_time("2026-11-01T00:00:00+01:00"),
    reset_at=parse_time("2026-11-20T09:30:00Z"),
    warn_at=(0.5, 0.8),
    action=Action.WARN,
    enforcement=Enforcement.STRICT,
    unpriced="0.01",
    raises=(Raise(amount_nanousd=from_usd("5"), until=parse_time("2026-11-27T23:00:00Z")),),
    paused=True,
    replaces="team-month",
    revision=1_795_340_000_123,
    updated_at=parse_time("2026-11-20T09:30:00Z"),
    updated_by="bob",
)
TOTAL = Total(
    account=ACCOUNT,
    window_start=MONTH,
    source_partition=2,
    spent_nanousd=NanoUsd(20_000_285_000),
    events=4711,
    first_offset=100,
    last_offset=90_412,
    last_event_id=EVENT_ID,
    incarnation=INCARNATION,
)
OPENING_BALANCE = Total(
    account=ACCOUNT,
    window_start=MONTH,
    source_partition="history",
    spent_nanousd=NanoUsd(1_500_000),
    events=12,
    first_offset=0,
    last_offset=1_240,
    before={-1: 1_000, 0: 140, 2: 100},
    shape="5d41402a",
    revision=1_795_340_000_123,
    incarnation=INCARNATION,
)
OPENING = Opening(
    budget_id="member-month",
    shape="5d41402a",
    source_partition="history",
    first_offset=1_240,
    before={-1: 1_000, 0: 140, 2: 100},
    revision=1_795_340_000_123,
    incarnation=INCARNATION,
)
SIGNAL = Signal(
    budget_id="member-month",
    account=ACCOUNT,
    subject={"key": KEY, "team": "search & ads"},
    window_start=MONTH,
    window_end=NEXT_MONTH,
    limit_nanousd=from_usd("25"),
    spent_nanousd=NanoUsd(20_000_285_000),
    state=State.WARNING,
    threshold=0.8,
    watermark={0: 88_001, 2: 90_412},
    incarnation=INCARNATION,
    revision=1_795_340_000_123,
    version=178_412,
    cause_event_id=EVENT_ID,
    forecast_exhausted_at=parse_time("2026-11-26T04:00:00Z"),
    opening=True,
    emitted_at=parse_time("2026-11-22T10:00:07.300001Z"),
)
ALERT = Alert(
    alert_id=alert_id(ACCOUNT, MONTH, AlertKind.THRESHOLD, "0.8"),
    kind=AlertKind.THRESHOLD,
    signal=SIGNAL,
    message="80 % of $25 spent",
    emitted_at=parse_time("2026-11-22T10:00:07.300001Z"),
)
DIGEST = Alert(
    alert_id=alert_id("team=search & ads", FINISHED, AlertKind.DIGEST, "daily"),
    kind=AlertKind.DIGEST,
    subject={"team": "search & ads"},
    message="team Search & Ads spent $12.50 on Sat 21 Nov\n220 requests, 3 refused",
    emitted_at=FINISHED,
)
DEAD_LETTER = DeadLetter.model_validate(
    {
        "source_topic": "spend.usage",
        "source_partition": 2,
        "source_offset": 90_413,
        "reason": Reason.NOT_JSON,
        "detail": "Invalid JSON: expected value at line 1 column 1",
        "component": "stream-1",
        "failed_at": parse_time("2026-11-22T10:00:07.310000Z"),
        "reader": Reader.STREAM,
        "headers": hold_headers([("ce_type", b"dev.spendmeter.usage.v1")]),
        **hold(b"k1", b"\xff\xfe no text"),
    }
)
RESOLVED = DEAD_LETTER.model_copy(
    update={
        **not_held(),
        "headers": {},
        "resolution": Resolution.DISCARDED,
        "resolved_at": parse_time("2026-11-22T11:30:00.000000Z"),
        "resolved_by": "ops",
    }
)
DECISION = Decision(
    decision_id=UUID("019a2c5e-5c00-7abc-8def-0123456789ac"),
    decided_at=parse_time("2026-11-22T10:00:08.000000Z"),
    gateway="eu-1",
    why=Why.NO_ROOM,
    name="ci",
    message="Budget would be exceeded!",
    budget_id="member-month",
    revision=1_795_340_000_123,
    account=ACCOUNT,
    window_start=MONTH,
    window_end=NEXT_MONTH,
    limit_nanousd=from_usd("25"),
    spent_nanousd=NanoUsd(24_990_000_000),
    signal_nanousd=NanoUsd(24_900_000_000),
    held_nanousd=NanoUsd(8_000_000),
    least_nanousd=NanoUsd(4_000_000),
    watermark={0: 88_001, 2: 90_412},
    producer_id="019a2c5e-0000-7abc-8def-0123456789ab",
    seq=311,
    pending_nanousd=NanoUsd(6_000_000),
    pending=(UUID("019a2c5e-5000-7abc-8def-0123456789ac"),),
)

OBJECT = ProviderObject(
    object_id="openai/batch_Aq1",
    kind=ObjectKind.BATCH,
    read_as="resp_bGl0ZWxsbQ==",
    created_at=FINISHED,
    gateway="gateway 1",
    key=KEY,
    key_alias="ann's notebook",
    user="ann",
    team="search & ads",
    organization="acme",
    project="ranking",
    end_user="customer-17",
    tags=("batch", "nightly"),
    session="session-5",
    model="gpt-4o-mini-2024-07-18",
    model_group="gpt-4o-mini",
)

DELIVERY = AlertDelivery(
    route="research-slack",
    alert_id=ALERT.alert_id,
    outcome=DeliveryOutcome.HELD,
    at=FINISHED,
    reason="quiet hours until 07:00 Europe/Berlin",
    attempts=2,
    reminders=1,
    due_at=parse_time("2026-11-23T06:00:00Z"),
    offset=4711,
    incarnation=INCARNATION,
    alert=ALERT,
)

BILL = USAGE.model_copy(
    update={
        "event_id": object_event_id(OBJECT.object_id),
        "kind": UsageKind.USAGE,
        "corrects": None,
        "cost_nanousd": NanoUsd(285_000),
        "cost_source": CostSource.LITELLM,
        "status": Status.SUCCESS,
        "call_type": "aretrieve_batch",
        "response_id": "batch_Aq1",
        "object_id": OBJECT.object_id,
        "cost_doubt": Doubt.NONE,
        "reason": CREATOR_UNKNOWN,
        "recorded_by": "",
    }
)

WIRE: dict[str, tuple[Topic, Wire, Record]] = {
    "usage": (Topic.USAGE, USAGE, encode_usage(USAGE)),
    "object-bill": (Topic.USAGE, BILL, encode_usage(BILL)),
    "budget": (Topic.BUDGETS, BUDGET, encode_budget(BUDGET)),
    "total": (Topic.TOTALS, TOTAL, encode_total(TOTAL, FINISHED)),
    "opening-balance": (Topic.TOTALS, OPENING_BALANCE, encode_total(OPENING_BALANCE, FINISHED)),
    "opening": (Topic.OPENINGS, OPENING, encode_opening(OPENING, FINISHED)),
    "signal": (Topic.SIGNALS, SIGNAL, encode_signal(SIGNAL)),
    "decision": (Topic.DECISIONS, DECISION, encode_decision(DECISION)),
    "alert": (Topic.ALERTS, ALERT, encode_alert(ALERT)),
    "digest": (Topic.ALERTS, DIGEST, encode_alert(DIGEST)),
    "delivery": (Topic.DELIVERIES, DELIVERY, encode_delivery(DELIVERY)),
    "object": (Topic.OBJECTS, OBJECT, encode_object(OBJECT)),
    "dead-letter": (Topic.DEAD_LETTERS, DEAD_LETTER, encode_dead_letter(DEAD_LETTER)),
    "dead-letter-resolved": (Topic.DEAD_LETTERS, RESOLVED, encode_dead_letter(RESOLVED)),
}
each = pytest.mark.parametrize("name", WIRE)


def example(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def value_of(name: str) -> bytes:
    """The example's value as it stands in Kafka: the same JSON without white space."""
    return json.dumps(example(name)["value"], separators=(",", ":"), ensure_ascii=False).encode()


@each
def test_what_is_written_today_is_the_example_byte_by_byte(name: str) -> None:
    topic, _, record = WIRE[name]
    shown = example(name)

    assert record.value == value_of(name)
    assert record.key == shown["key"].encode()
    assert record.headers == [(header, text.encode()) for header, text in shown["headers"].items()]
    assert topic.value == shown["topic"]


@each
def test_the_example_is_read_as_what_was_written(name: str) -> None:
    _, value, _ = WIRE[name]
    headers = [(header, text.encode()) for header, text in example(name)["headers"].items()]

    assert decode(type(value), value_of(name), headers) == value


@each
def test_the_examples_show_every_field_with_a_value_that_is_not_the_default(name: str) -> None:
    _, value, _ = WIRE[name]
    alike = [other for _, other, _ in WIRE.values() if type(other) is type(value)]

    assert set.intersection(*(set(_left_at_default(other)) for other in alike)) == set()


def test_there_is_an_example_of_each_topic_and_no_other_file() -> None:
    assert {file.name for file in EXAMPLES.iterdir()} == {f"{name}.json" for name in WIRE}
    assert {topic for topic, _, _ in WIRE.values()} == set(Topic)


def _left_at_default(value: BaseModel) -> list[str]:
    fields = type(value).model_fields.items()
    return [name for name, field in fields if getattr(value, name) == field.get_default()]
