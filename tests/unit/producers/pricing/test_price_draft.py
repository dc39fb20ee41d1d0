"""Which price counts for a request, and what it then costs."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.prices.book import ModelNames, PriceBook, PriceEntry, Used
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Origin, UsageDraft
from spendmeter_gateway.pricing.price_draft import Priced, priced
from tests.unit.producers.litellm.payload.test_usage import NOW, REQUEST_ID, payload, with_cost

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def book(*, override: bool = False, model: str = "house-*", **usd_per_unit: str) -> PriceBook:
    prices = {unit: Decimal(usd) for unit, usd in (usd_per_unit or {"input_token": "0.000001"}).items()}
    return PriceBook("7", (PriceEntry("openai", model, JANUARY, None, prices, override),))


def mapped(name: str = "unknown_model") -> UsageDraft:
    draft = usage_of(read_log_event(payload(name)), event_id=REQUEST_ID, occurred_at=NOW)
    assert draft is not None
    return draft


def event(draft: UsageDraft) -> UsageEvent:
    return draft.finish(Origin("p", "g"), 1)


def ten_cents(_model: ModelNames, _used: Used, _at: datetime) -> Priced:
    return Priced(NanoUsd(100_000_000), {"version": "a list"})


def test_a_model_that_litellm_cannot_price_costs_what_the_book_says_and_the_event_names_the_version() -> None:
    found = event(priced(mapped(), book(input_token="0.000001", output_token="0.000002"), None))
    assert found.cost_source is CostSource.PRICEBOOK
    assert found.cost_nanousd == 100 * 1_000 + 40 * 2_000
    assert found.prices == {
        "input_token": "0.000001",
        "output_token": "0.000002",
        "version": "pricebook 7 from 2026-01-01T00:00:00.000000Z",
    }


def test_a_price_of_litellms_stays_unless_the_book_overrides_it() -> None:
    draft = mapped("chat")
    assert priced(draft, book(model="*"), ten_cents) == draft
    assert event(priced(draft, book(model="*", override=True), None)).cost_nanousd == 100_000


@pytest.mark.parametrize("name", ["cache_hit", "upstream_failure"])
def test_what_no_model_served_is_not_priced(name: str) -> None:
    draft = mapped(name)
    assert priced(draft, book(model="*", override=True), ten_cents) == draft


def test_the_fallback_is_asked_where_neither_litellm_nor_the_book_knows_a_price() -> None:
    found = event(priced(mapped(), book(model="other"), ten_cents))
    assert (found.cost_nanousd, found.cost_source) == (100_000_000, CostSource.PRICEBOOK)
    assert found.prices == {"version": "a list"}
    assert event(priced(mapped(), book(), ten_cents)).cost_nanousd == 100_000
    assert event(priced(mapped(), None, ten_cents)).cost_nanousd == 100_000_000


def test_without_any_price_the_request_stays_unpriced() -> None:
    draft = mapped()
    assert priced(draft, None, lambda *_: None) == draft
    assert event(draft).cost_source is CostSource.UNPRICED


def test_what_litellm_knows_beside_the_models_price_is_added() -> None:
    """A guardrail's cost; the model's own is unknown."""
    kwargs = payload("unknown_model")
    kwargs["response_cost"] = None
    kwargs["standard_logging_object"]["response_cost"] = 0.25
    draft = usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW)
    assert draft is not None
    assert event(draft).cost_source is CostSource.UNPRICED
    assert event(priced(draft, book(), None)).cost_nanousd == 250_100_000


def test_a_cost_that_cannot_be_is_priced_by_the_book() -> None:
    draft = usage_of(read_log_event(with_cost(-1.0, "unknown_model")), event_id=REQUEST_ID, occurred_at=NOW)
    assert draft is not None
    found = priced(draft, book(), None)
    assert event(found).cost_nanousd == 100_000
    assert found.doubt == draft.doubt


def test_an_amount_beyond_what_we_hold_leaves_the_request_unpriced_and_is_told() -> None:
    found = priced(mapped(), book(input_token="1000000000"), None)
    assert event(found).cost_source is CostSource.UNPRICED
    assert found.doubt is not None
    assert "largest amount" in found.doubt


def image_call(**changes: Any) -> dict[str, Any]:
    kwargs = payload("unknown_model")
    kwargs["standard_logging_object"] |= {"call_type": "aimage_generation", **changes}
    return kwargs


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({"response": {"data": [{}, {}, {}]}}, 3),
        ({"response": "redacted", "model_parameters": {"n": 2}}, 2),
        ({"response": None}, 1),
        ({"call_type": "acompletion", "response": {"data": [{}]}}, 0),
    ],
)
def test_images_are_counted_from_the_answer_else_as_asked_for(changes: dict[str, Any], images: int) -> None:
    draft = usage_of(read_log_event(image_call(**changes)), event_id=REQUEST_ID, occurred_at=NOW)
    assert draft is not None
    assert draft.images == images
    assert event(priced(draft, book(image="0.04"), None)).cost_nanousd == images * 40_000_000


def test_a_draft_with_nothing_but_a_cost_is_no_problem() -> None:
    fields = {
        "event_id": UUID(int=1),
        "occurred_at": NOW,
        "cost_source": CostSource.UNPRICED,
        "cost_nanousd": 0,
    }
    assert priced(UsageDraft(fields), book(), None).fields == fields
