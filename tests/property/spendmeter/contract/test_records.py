"""Laws of records: what is written is read back, and no bytes raise anything but InvalidRecord."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.alert import Alert
from spendmeter.contract.budget import Budget
from spendmeter.contract.dead_letter import DeadLetter
from spendmeter.contract.records import InvalidRecord, decode, decode_usage, encode_budget, encode_usage
from spendmeter.contract.signal import Signal
from spendmeter.contract.total import Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.contract.wire import Wire
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.domain.window import window_of
from tests.builders import NOON, budget, usage

models = st.sampled_from([UsageEvent, Budget, Total, Signal, Alert, DeadLetter])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
times = st.sampled_from(
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1970-01-01T00:00:00Z", "2026-11-22T12:00:00Z"]
) | st.text(max_size=30)

EVENT: dict[str, Any] = json.loads(encode_usage(usage()).value)
BUDGET: dict[str, Any] = json.loads(encode_budget(budget()).value)


@given(models, st.binary() | json_values.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_value_or_an_invalid_record(model: type[Wire], value: bytes) -> None:
    try:
        read: Wire | InvalidRecord = decode(model, value)
    except InvalidRecord as invalid:
        read = invalid

    assert isinstance(read, model) or (isinstance(read, InvalidRecord) and read.detail)


@settings(max_examples=400)
@given(st.sampled_from(sorted(EVENT)), json_values | times)
def test_an_event_with_any_field_spoilt_is_counted_or_refused_and_stops_nothing(
    field: str, spoilt: object
) -> None:
    value = json.dumps({**EVENT, field: spoilt}).encode()
    in_force = [budget(id=f"{p}-{n}", period=p, timezone=z) for n, (p, z) in enumerate(_EVERYWHERE)]
    try:
        event = decode_usage(value, [], NOON)
    except InvalidRecord:
        return

    for account in BudgetBook(in_force).accounts_of(subject_of(event)):
        window = window_of(account.budget, event.occurred_at)
        assert window is not None
        assert window.holds(event.occurred_at)


@settings(max_examples=400)
@given(st.sampled_from(sorted(BUDGET)), json_values | times)
def test_a_budget_with_any_field_spoilt_is_in_force_or_refused_and_stops_nothing(
    field: str, spoilt: object
) -> None:
    value = json.dumps({**BUDGET, field: spoilt}).encode()
    try:
        of = decode(Budget, value)
    except InvalidRecord:
        return

    assert decode(Budget, encode_budget(of).value) == of
    assert of.limit_at(NOON) >= 1
    assert of.unpriced_flat_nanousd() >= 0
    window = window_of(of, NOON + timedelta(days=1))
    assert window is None or window.holds(NOON + timedelta(days=1))


@given(
    st.builds(
        usage,
        seq=st.integers(1, 2**63 - 1),
        cost_nanousd=st.integers(0, 10**18 - 1),
        key=st.text(),
        user=st.none() | st.text(),
        tags=st.lists(st.text(), max_size=4),
        gateway=st.text(),
        prices=st.dictionaries(st.text(), st.text(), max_size=3),
        total_tokens=st.integers(0, 2**63 - 1),
    )
)
def test_an_event_survives_kafka(event: UsageEvent) -> None:
    record = encode_usage(event)

    assert decode_usage(record.value, record.headers, NOON) == event
    assert record.key.decode() == event.key
    assert all(text.decode().isascii() for _, text in record.headers)


_EVERYWHERE = [
    (period, zone)
    for period in ("hour", "day", "week", "month", "year", "lifetime")
    for zone in ("UTC", "America/New_York", "Pacific/Kiritimati")
]
