"""What an event counts for: its cost, and a flat amount for what nobody can price."""

from uuid import UUID

import pytest

from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.domain.charge import cost_for, flats_of
from tests.builders import budget, usage

FLAT = budget(unpriced="0.01")
ORIGINAL = UUID("019a2c5e-0000-7000-8000-000000000001")


def unpriced(cost_nanousd: int = 0, **fields: object) -> UsageEvent:
    return usage(1, cost_nanousd, cost_source=CostSource.UNPRICED, **fields)


def corrected(cost_nanousd: int, kind: UsageKind, source: CostSource) -> UsageEvent:
    return usage(1, cost_nanousd, kind=kind, corrects=ORIGINAL, cost_source=source)


def test_a_served_request_without_a_price_counts_the_flat_amount() -> None:
    assert cost_for(FLAT, unpriced()) == 10_000_000


def test_what_is_known_of_its_cost_counts_beside_the_flat_amount() -> None:
    """LiteLLM knows what a guardrail cost even where the model has no price."""
    assert cost_for(FLAT, unpriced(7)) == 10_000_007


def test_a_failed_request_without_a_price_counts_nothing() -> None:
    assert cost_for(FLAT, unpriced(status=Status.FAILURE)) == 0


@pytest.mark.parametrize("policy", ["allow", "block", "0"])
def test_without_a_flat_amount_only_the_cost_counts(policy: str) -> None:
    assert cost_for(budget(unpriced=policy), unpriced()) == 0
    assert cost_for(budget(unpriced=policy), unpriced(7)) == 7


@pytest.mark.parametrize("source", [s for s in CostSource if s is not CostSource.UNPRICED])
def test_a_priced_request_counts_its_cost(source: CostSource) -> None:
    assert cost_for(FLAT, usage(1, 5, cost_source=source)) == 5
    assert flats_of(usage(1, 5, cost_source=source)) == 0


@pytest.mark.parametrize("kind", [UsageKind.CORRECTION, UsageKind.VOID])
def test_the_first_correction_of_an_unpriced_request_takes_its_flat_amount_back(kind: UsageKind) -> None:
    first = corrected(3_000, kind, CostSource.UNPRICED)
    assert cost_for(FLAT, unpriced()) + cost_for(FLAT, first) == 3_000
    later = corrected(-3_000, kind, CostSource.PRICEBOOK)
    assert cost_for(FLAT, later) == -3_000
