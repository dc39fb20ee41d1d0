"""Laws of the quick writer: its bytes are pydantic's, whatever is in the fields."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.fast_json import write_json
from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.total import Total
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.contract.wire import Wire, construct_unchecked

whole = st.integers() | st.integers(0, 2**64 + 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=128)
moments = st.datetimes(
    datetime(1971, 1, 1),  # noqa: DTZ001
    datetime(9998, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
)
times = moments | moments.map(lambda time: time.replace(microsecond=0))
offsets = st.dictionaries(st.integers(0, 1000), st.integers(0, 2**63 - 1), max_size=4)

totals = st.builds(
    Total,
    account=texts,
    window_start=times,
    source_partition=st.integers(0, 1000) | st.just("history"),
    spent_nanousd=whole.map(NanoUsd),
    events=st.integers(0),
    first_offset=st.integers(0),
    last_offset=st.integers(0),
    last_event_id=st.none() | st.uuids(),
    before=st.none() | offsets,
    shape=st.none() | texts,
    revision=whole,
)
signals = st.builds(
    Signal,
    budget_id=texts,
    account=texts,
    subject=st.dictionaries(texts, texts, max_size=3),
    window_start=times,
    window_end=st.none() | times,
    limit_nanousd=whole.map(NanoUsd),
    spent_nanousd=whole.map(NanoUsd),
    state=st.sampled_from(State),
    threshold=st.none() | st.floats(0, 1) | st.sampled_from([1e-7, 0.1, 1.0]),
    watermark=offsets,
    revision=whole,
    version=st.integers(0),
    cause_event_id=st.none() | st.uuids(),
    forecast_exhausted_at=st.none() | times,
    opening=st.booleans(),
    emitted_at=times,
)
usage_events = st.builds(
    UsageEvent,
    event_id=st.uuids(),
    kind=st.just(UsageKind.USAGE),
    corrects=st.none(),
    producer_id=texts.filter(bool),
    seq=st.integers(1, 2**63 - 1),
    occurred_at=times,
    started_at=times,
    tags=st.lists(texts, max_size=3).map(tuple),
    key_alias=st.none() | texts,
    model=texts,
    input_tokens=st.integers(0, 2**63 - 1),
    cost_nanousd=st.integers(0, LIMIT_OF_AMOUNTS_NANOUSD),
    cost_source=st.sampled_from(CostSource),
    prices=st.dictionaries(texts, texts, max_size=3),
    status=st.sampled_from(Status),
    estimated=st.booleans(),
)


@given(totals | signals | usage_events)
def test_it_writes_what_pydantic_writes(value: Wire) -> None:
    assert write_json(value) == value.model_dump_json().encode()


@given(totals | signals | usage_events)
def test_a_value_made_of_right_fields_is_the_value(value: Wire) -> None:
    again = construct_unchecked(type(value), dict(value))

    assert again == value
    assert write_json(again) == write_json(value)
    assert again.model_fields_set == set(type(value).model_fields)


@given(usage_events, times)
def test_a_time_of_another_zone_is_written_in_utc(event: UsageEvent, time: datetime) -> None:
    unchecked = construct_unchecked(UsageEvent, {**dict(event), "occurred_at": time})

    assert write_json(unchecked) == unchecked.model_dump_json().encode()
