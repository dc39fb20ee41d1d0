"""The usage event: what it may hold, and what it may never hold."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD
from spendmeter.contract.records import InvalidRecord, decode, render_validation_error
from spendmeter.contract.usage import UsageEvent, UsageKind
from tests.builders import usage

ANOTHER = UUID(int=7)
MINIMAL = b"""{"event_id": "01985e8f-0000-7000-8000-000000000001", "producer_id": "p", "seq": 1,
"occurred_at": "2026-11-22T12:00:00Z", "started_at": "2026-11-22T12:00:00Z",
"cost_nanousd": %s, "cost_source": "litellm"}"""


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        usage(**fields)
    return render_validation_error(refused.value)


def test_an_event_needs_no_more_than_its_place_its_time_and_its_cost() -> None:
    event = decode(UsageEvent, MINIMAL % b"5")

    assert (event.kind, event.cost_nanousd, event.key, event.tags) == (UsageKind.USAGE, 5, "", ())


def test_a_usage_event_costs_nothing_or_more() -> None:
    assert usage(cost_nanousd=0).cost_nanousd == 0
    assert refusal(cost_nanousd=-1) == (
        "value: cost_nanousd of a usage event is negative; send kind=correction instead"
    )


@pytest.mark.parametrize("kind", ["correction", "void"])
def test_a_correction_or_void_may_be_negative_and_names_what_it_corrects(kind: str) -> None:
    assert usage(kind=kind, corrects=ANOTHER, cost_nanousd=-1).cost_nanousd == -1
    assert refusal(kind=kind) == f"value: kind={kind} without corrects; name the event id it corrects"


def test_a_usage_event_corrects_nothing() -> None:
    assert refusal(corrects=ANOTHER) == (
        "value: corrects is set on a usage event; only a correction or void corrects"
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_an_amount_that_history_could_not_hold_is_refused(sign: int) -> None:
    most = sign * LIMIT_OF_AMOUNTS_NANOUSD

    assert usage(kind="correction", corrects=ANOTHER, cost_nanousd=most).cost_nanousd == most
    assert "cost_nanousd" in refusal(kind="correction", corrects=ANOTHER, cost_nanousd=most + sign)


@pytest.mark.parametrize("cost", [b"5.0", b"1e3", b'"5"', b"true", b"null", b"NaN"])
def test_money_is_a_json_integer_and_nothing_else(cost: bytes) -> None:
    with pytest.raises(InvalidRecord, match="cost_nanousd"):
        decode(UsageEvent, MINIMAL % cost)


@pytest.mark.parametrize(
    ("field", "least"),
    [
        ("seq", 1),
        ("duration_ms", 0),
        ("input_tokens", 0),
        ("output_tokens", 0),
        ("cache_read_tokens", 0),
        ("cache_write_tokens", 0),
        ("reasoning_tokens", 0),
        ("total_tokens", 0),
    ],
)
def test_a_count_below_the_least_there_can_be_is_refused(field: str, least: int) -> None:
    assert getattr(usage(**{field: least}), field) == least
    assert refusal(**{field: least - 1}).startswith(f"{field}: ")


@pytest.mark.parametrize("field", ["total_tokens", "seq", "duration_ms"])
def test_a_count_fits_64_bits(field: str) -> None:
    assert getattr(usage(**{field: 2**63 - 1}), field) == 2**63 - 1
    assert refusal(**{field: 2**63}).startswith(f"{field}: ")


def test_an_event_of_no_producer_is_refused() -> None:
    assert refusal(producer_id="") == "producer_id: String should have at least 1 character"


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        usage().cost_nanousd = 0  # type: ignore[assignment,misc]
