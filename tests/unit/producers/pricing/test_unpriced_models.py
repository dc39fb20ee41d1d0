"""A model is known to have no price only once it has shown that, everywhere it may be served."""

from collections.abc import Callable
from typing import Any

import pytest

from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter_gateway.pricing import price_draft as unpriced_models
from spendmeter_gateway.pricing.price_draft import KNOWN_FOR_SECONDS, UnpricedModels
from tests.builders import usage


def served(source: CostSource = CostSource.UNPRICED, **fields: Any) -> UsageEvent:
    given = {"deployment": "d1", "model_group": "llama", "total_tokens": 12, "cost_source": source}
    return usage(1, 0, **{**given, **fields})


def of(*deployments: str) -> Callable[[], list[str]]:
    return lambda: list(deployments)


def test_nothing_is_known_of_a_model_that_was_never_served() -> None:
    assert not UnpricedModels().knows("llama", of("d1"), 0.0)


def test_a_model_that_came_back_without_a_price_is_known_and_no_other_one() -> None:
    models = UnpricedModels()
    models.note(served(), 0.0)
    assert models.knows("llama", of("d1"), 1.0)
    assert not models.knows("mistral", of("d1"), 1.0), "a wildcard deployment serves many models"
    assert not models.knows(None, of("d1"), 1.0)


def test_another_deployment_that_may_serve_it_may_have_a_price() -> None:
    models = UnpricedModels()
    models.note(served(), 0.0)
    assert not models.knows("llama", of("d1", "d2"), 1.0)
    models.note(served(deployment="d2"), 0.0)
    assert models.knows("llama", of("d1", "d2"), 1.0)


def test_where_the_router_names_no_deployment_nothing_is_known() -> None:
    models = UnpricedModels()
    models.note(served(), 0.0)
    assert not models.knows("llama", of(), 1.0)


def test_what_was_seen_is_no_longer_known_after_its_time() -> None:
    models = UnpricedModels()
    models.note(served(), 5.0)
    assert models.knows("llama", of("d1"), 5.0 + KNOWN_FOR_SECONDS - 0.001)
    assert not models.knows("llama", of("d1"), 5.0 + KNOWN_FOR_SECONDS)


def test_a_price_that_was_seen_since_ends_it_and_a_cached_answer_says_nothing() -> None:
    models = UnpricedModels()
    models.note(served(), 0.0)
    models.note(served(CostSource.CACHE), 1.0)
    assert models.knows("llama", of("d1"), 2.0)
    models.note(served(CostSource.LITELLM), 3.0)
    assert not models.knows("llama", of("d1"), 4.0)


@pytest.mark.parametrize(
    "no_evidence",
    [
        {"status": Status.FAILURE},
        {"total_tokens": 0},
        {"deployment": None},
        {"kind": UsageKind.VOID, "corrects": "019a2c5e-0000-7000-8000-000000000001"},
    ],
)
def test_an_event_that_shows_no_missing_price_is_no_evidence(no_evidence: dict[str, Any]) -> None:
    models = UnpricedModels()
    models.note(served(**no_evidence), 0.0)
    assert not models.knows("llama", of("d1", *([""] if "deployment" in no_evidence else [])), 0.0)


def test_new_prices_end_all_of_it() -> None:
    models = UnpricedModels()
    models.note(served(), 0.0)
    models.forget()
    assert not models.knows("llama", of("d1"), 0.0)


def test_the_memory_is_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpriced_models, "MAX_KNOWN", 2)
    models = UnpricedModels()
    for n in (1, 2, 1, 3):
        models.note(served(deployment=f"d{n}"), float(n))
    assert models.knows("llama", of("d1"), 3.0)
    assert models.knows("llama", of("d3"), 3.0)
    assert not models.knows("llama", of("d2"), 3.0)
