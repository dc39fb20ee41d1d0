"""Laws of the mapping: whatever LiteLLM hands over, the event is recorded, exact and without the key."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import to_usd
from spendmeter.contract.records import decode, encode_usage
from spendmeter.contract.usage import UsageEvent
from spendmeter_gateway.litellm.fields import key_hash
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Origin

REQUEST_ID = UUID("01935000-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 22, 13, tzinfo=UTC)

PAYLOADS = sorted((Path(__file__).parents[3] / "unit/producers/litellm/payload/payloads").glob("*.json"))
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from([{}, [], {"a": 1}, [None], b"\xff", -1, 10**400, "\ud800", "x" * 10**4])
)


def paths_of(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from paths_of(inner, (*path, name))


@st.composite
def spoiled_payloads(draw: st.DrawFn) -> dict[str, Any]:
    """A real payload in which up to five fields are gone or hold anything."""
    kwargs: dict[str, Any] = json.loads(draw(st.sampled_from(PAYLOADS)).read_text())
    for path in draw(st.lists(st.sampled_from(sorted(paths_of(kwargs))), max_size=5)):
        holder = kwargs
        for name in path[:-1]:
            inner = holder.get(name)
            holder = inner if isinstance(inner, dict) else {}
        if draw(st.booleans()):
            holder.pop(path[-1], None)
        else:
            holder[path[-1]] = draw(JUNK)
    return kwargs


@given(spoiled_payloads())
def test_whatever_litellm_passes_is_an_event_that_the_stream_can_read(kwargs: dict[str, Any]) -> None:
    logged = read_log_event(kwargs)
    draft = usage_of(logged, event_id=logged.request_id or REQUEST_ID, occurred_at=NOW)

    if draft is not None:
        event = draft.finish(Origin("p", "g"), 1)
        record = encode_usage(event)
        assert decode(UsageEvent, record.value, record.headers) == event
        # The model is not asked where an event is made: this is why it need not be.
        assert UsageEvent.model_validate(vars(event), strict=True) == event
        assert list(vars(event)) == list(UsageEvent.model_fields)


@given(st.text(min_size=1))
def test_a_key_leaves_as_a_hash(key: str) -> None:
    hashed = key_hash(key)

    assert len(hashed) == 64
    assert set(hashed) <= set("0123456789abcdef")
    assert key_hash(hashed) == hashed


@given(st.floats(min_value=1e-9, max_value=999_999, allow_nan=False))
def test_a_cost_is_the_decimal_that_people_read_to_half_a_nano(cost: float) -> None:
    kwargs = {"response_cost": cost, "standard_logging_object": {"status": "success", "response_cost": cost}}
    draft = usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW)

    assert draft is not None
    assert abs(to_usd(draft.fields["cost_nanousd"]) - Decimal(repr(cost))) <= Decimal("5e-10")
