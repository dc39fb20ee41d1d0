"""Which figure counts: LiteLLM's, or tokens times prices (docs/prices.md)."""

from typing import Any

import pytest

from spendmeter.contract.money import InvalidAmount
from spendmeter.contract.usage import CostSource, Doubt, Status
from spendmeter_gateway.litellm.payload.prices import is_free_by_price
from spendmeter_gateway.litellm.payload.usage_counts import counts_of
from spendmeter_gateway.model import UsageCounts
from spendmeter_gateway.pricing.token_prices import cost_in_tokens
from tests.unit.producers.litellm.payload.test_usage import event_of, payload, with_cost

CHAT_NANOUSD = 36_750


def chat(cost: object, *, breakdown: dict[str, Any] | None = None, **logged: Any) -> dict[str, Any]:
    """A chat call whose tokens cost CHAT_NANOUSD, with LiteLLM's figure and its parts as given."""
    kwargs = with_cost(cost)
    kwargs["standard_logging_object"] |= {"cost_breakdown": breakdown, **logged}
    return kwargs


def map_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = kwargs["standard_logging_object"]["model_map_information"]["model_map_value"]
    return found


def verdict(kwargs: dict[str, Any]) -> tuple[int, CostSource, Doubt]:
    event = event_of(kwargs)
    return event.cost_nanousd, event.cost_source, event.cost_doubt


def test_zero_beside_priced_tokens_is_no_cost() -> None:
    """Case 10: a provider's usage says `"cost": 0`, and LiteLLM takes it over."""
    assert verdict(chat(0.0)) == (CHAT_NANOUSD, CostSource.TOKENS, Doubt.ZERO)


@pytest.mark.parametrize(
    ("nanousd", "doubt"),
    [
        (CHAT_NANOUSD - 2, Doubt.BELOW_TOKENS),
        (CHAT_NANOUSD - 1, Doubt.NONE),
        (CHAT_NANOUSD, Doubt.NONE),
        (CHAT_NANOUSD * 3, Doubt.NONE),
    ],
)
def test_litellms_figure_counts_from_tokens_times_prices_on_but_for_a_rounding(
    nanousd: int, doubt: Doubt
) -> None:
    amount, source, found = verdict(chat(nanousd / 1e9))

    assert found is doubt
    assert (amount, source) == ((CHAT_NANOUSD, CostSource.TOKENS) if doubt else (nanousd, CostSource.LITELLM))


def test_less_than_its_own_parts_is_no_cost() -> None:
    parts = {"input_cost": 3e-05, "output_cost": 6e-05, "tool_usage_cost": 0.01, "total_cost": 4e-05}

    assert verdict(chat(4e-05, breakdown=parts)) == (10_090_000, CostSource.TOKENS, Doubt.BELOW_PARTS)


def test_parts_of_parts_are_not_added() -> None:
    parts = {
        "input_cost": 1.275e-05,
        "output_cost": 2.4e-05,
        "reasoning_cost": 1e-05,
        "cache_read_cost": 1e-05,
    }

    assert verdict(chat(CHAT_NANOUSD / 1e9, breakdown=parts))[2] is Doubt.NONE


def test_the_operators_discount_is_no_doubt() -> None:
    parts = {
        "input_cost": 1.275e-05,
        "output_cost": 2.4e-05,
        "discount_percent": 0.2,
        "discount_amount": 7.35e-06,
    }

    assert verdict(chat(2.94e-05, breakdown=parts)) == (29_400, CostSource.LITELLM, Doubt.NONE)
    assert verdict(chat(2.9e-05, breakdown=parts))[2] is Doubt.BELOW_PARTS


def test_a_negative_margin_is_no_doubt() -> None:
    parts = {
        "input_cost": 1.275e-05,
        "output_cost": 2.4e-05,
        "margin_percent": -0.5,
        "margin_total_amount": -1.8375e-05,
    }

    assert verdict(chat(1.8375e-05, breakdown=parts))[2] is Doubt.NONE


def test_a_service_tier_that_litellm_billed_is_no_doubt() -> None:
    kwargs = chat(CHAT_NANOUSD / 2 / 1e9, breakdown={"service_tier": "flex"})
    for name in ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"):
        map_of(kwargs)[f"{name}_flex"] = map_of(kwargs)[name] / 2

    assert verdict(kwargs) == (18_375, CostSource.LITELLM, Doubt.NONE)
    kwargs["standard_logging_object"]["cost_breakdown"] = {"service_tier": None}
    assert verdict(kwargs) == (CHAT_NANOUSD, CostSource.TOKENS, Doubt.BELOW_TOKENS)


def test_a_price_of_the_night_is_no_doubt() -> None:
    kwargs = chat(CHAT_NANOUSD / 2 / 1e9)
    listed = map_of(kwargs)
    listed["off_peak_pricing"] = {"hours_utc": "16:30-00:30"} | {
        name: listed[name] / 2
        for name in ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    }

    assert verdict(kwargs)[2] is Doubt.NONE


def test_who_says_what_it_costs_is_believed_unless_that_is_nothing() -> None:
    assert verdict(chat(1e-05, custom_llm_provider="openrouter"))[1:] == (CostSource.LITELLM, Doubt.NONE)
    assert verdict(chat(0.0, custom_llm_provider="openrouter"))[1:] == (CostSource.TOKENS, Doubt.ZERO)


def test_the_operators_own_prices_bind_those_who_say_what_they_cost() -> None:
    kwargs = payload("custom_price")
    kwargs["response_cost"] = kwargs["standard_logging_object"]["response_cost"] = 1e-05
    kwargs["standard_logging_object"] |= {"custom_llm_provider": "openrouter", "cost_breakdown": None}

    assert verdict(kwargs) == (819_000, CostSource.TOKENS, Doubt.BELOW_TOKENS)


def test_a_guardrails_cost_is_added_to_ours() -> None:
    kwargs = chat(0.0)
    kwargs["standard_logging_object"]["response_cost"] = 0.5

    assert verdict(kwargs) == (500_000_000 + CHAT_NANOUSD, CostSource.TOKENS, Doubt.ZERO)


def test_media_may_be_billed_otherwise_than_by_tokens() -> None:
    assert verdict(chat(1e-06, call_type="aimage_generation"))[2] is Doubt.NONE
    assert verdict(chat(0.0, call_type="aimage_generation"))[2] is Doubt.ZERO


def test_a_failure_whose_tokens_are_known_costs_them() -> None:
    kwargs = chat(0.0, status="failure")

    event = event_of(kwargs)
    assert (event.cost_nanousd, event.status) == (CHAT_NANOUSD, Status.FAILURE)


def test_tokens_that_have_no_price_are_unpriced_though_something_else_has_one() -> None:
    kwargs = payload("unknown_model")
    kwargs["standard_logging_object"]["model_map_information"]["model_map_value"] = {
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
    }
    assert verdict(kwargs) == (0, CostSource.UNPRICED, Doubt.NONE)


def test_a_model_that_the_operator_made_free_is_free_whatever_else_its_list_has_prices_of() -> None:
    kwargs = chat(0.0)
    kwargs["litellm_params"] |= {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}

    assert verdict(kwargs) == (0, CostSource.LITELLM, Doubt.NONE)


class TestMissingUsage:
    """An answer that does not say what it used."""

    @staticmethod
    def without_usage(name: str, **sent: Any) -> dict[str, Any]:
        kwargs = payload(name) | sent
        logged = kwargs["standard_logging_object"]
        logged |= {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "response_cost": 0.0}
        logged["metadata"]["usage_object"] = {}
        kwargs["response_cost"] = 0.0
        return kwargs

    def test_is_estimated_from_what_went_in_and_came_out(self) -> None:
        kwargs = self.without_usage("chat", messages=[{"role": "user", "content": "x" * 3_000}])
        kwargs["standard_logging_object"]["response"]["choices"] = [{"message": {"content": "y" * 300}}]

        event = event_of(kwargs)

        assert event.estimated
        assert 1_000 <= event.input_tokens < 1_010
        assert 100 <= event.output_tokens < 110
        assert event.cost_nanousd == event.input_tokens * 150 + event.output_tokens * 600
        assert (event.cost_source, event.cost_doubt) == (CostSource.TOKENS, Doubt.NONE)

    def test_of_a_model_without_a_price_is_unpriced_and_has_tokens(self) -> None:
        event = event_of(
            self.without_usage("unknown_model", messages=[{"role": "user", "content": "x" * 30}])
        )

        assert (event.cost_source, event.estimated) == (CostSource.UNPRICED, True)
        assert event.total_tokens > 0

    @pytest.mark.parametrize("name", ["cache_hit", "upstream_failure"])
    def test_of_what_no_model_served_is_none(self, name: str) -> None:
        event = event_of(self.without_usage(name, messages=[{"role": "user", "content": "x" * 30}]))

        assert (event.total_tokens, event.estimated) == (0, False)


class TestTokensTimesPrices:
    """What a call costs by what it used."""

    PRICES = {  # noqa: RUF012
        "input_cost_per_token": 3e-06,
        "output_cost_per_token": 1.5e-05,
        "cache_read_input_token_cost": 3e-07,
        "cache_creation_input_token_cost": 3.75e-06,
        "cache_creation_input_token_cost_above_1hr": 6e-06,
        "input_cost_per_token_above_200k_tokens": 6e-06,
        "output_cost_per_token_above_200k_tokens": 2.25e-05,
        "input_cost_per_audio_token": 1e-05,
    }

    @pytest.mark.parametrize(
        ("counts", "nanousd"),
        [
            (UsageCounts(1_000, 100), 4_500_000),
            (UsageCounts(1_000, 100, cache_read_tokens=400, cache_write_tokens=200), 3_570_000),
            (UsageCounts(1_000, 0, cache_write_tokens=200, cache_write_1h_tokens=100), 3_375_000),
            (UsageCounts(1_000, 0, input_audio_tokens=100), 3_700_000),
            (UsageCounts(200_000, 100), 601_500_000),
            (UsageCounts(200_001, 100), 1_202_256_000),
            (UsageCounts(), 0),
        ],
    )
    def test_each_kind_of_token_has_its_price(self, counts: UsageCounts, nanousd: int) -> None:
        assert cost_in_tokens(counts, self.PRICES) == nanousd

    def test_without_a_price_there_is_no_amount(self) -> None:
        assert cost_in_tokens(UsageCounts(10, 10), {}) is None
        assert cost_in_tokens(UsageCounts(10, 10), {"input_cost_per_token": 0.0}) == 0

    def test_other_units(self) -> None:
        assert cost_in_tokens(UsageCounts(images=3), {"output_cost_per_image": 0.04}) == 120_000_000
        assert cost_in_tokens(UsageCounts(duration_ms=1_500), {"input_cost_per_second": 0.001}) == 1_500_000
        assert cost_in_tokens(UsageCounts(queries=2), {"input_cost_per_query": 0.002}) == 4_000_000

    def test_an_amount_beyond_what_we_hold_is_none(self) -> None:
        with pytest.raises(InvalidAmount):
            cost_in_tokens(UsageCounts(2**53), {"input_cost_per_token": 1.0})

    @pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), True, "x", [1], None])
    def test_what_is_no_price_costs_nothing_and_raises_nothing(self, price: object) -> None:
        assert not cost_in_tokens(UsageCounts(1, 1), {"input_cost_per_token": price})


@pytest.mark.parametrize(
    ("written", "is_free"),
    [
        ({"input_cost_per_token": 0, "output_cost_per_token": 0.0}, True),
        ({"input_cost_per_token": 0}, False),
        ({"input_cost_per_token": 0, "output_cost_per_token": 0, "output_cost_per_image": 0.1}, False),
        ({"input_cost_per_token": 0, "output_cost_per_token": 1e-6}, False),
        ({}, False),
    ],
)
def test_free_is_what_the_operator_wrote(written: dict[str, Any], is_free: bool) -> None:
    assert is_free_by_price(written, {}) is is_free


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"input_tokens": 50, "output_tokens": 40, "cache_read_input_tokens": 30},
            UsageCounts(80, 40, 30, 0, 0, 120),
        ),
        (
            {
                "input_tokens": 100,
                "output_tokens": 40,
                "input_tokens_details": {"cached_tokens": 30},
                "output_tokens_details": {"reasoning_tokens": 8},
            },
            UsageCounts(100, 40, 30, 0, 8, 140),
        ),
        (
            {
                "promptTokenCount": 90,
                "toolUsePromptTokenCount": 10,
                "candidatesTokenCount": 32,
                "thoughtsTokenCount": 8,
                "cachedContentTokenCount": 30,
            },
            UsageCounts(100, 40, 30, 0, 8, 140),
        ),
        ({"prompt_tokens": -5, "completion_tokens": "7", "prompt_tokens_details": [1]}, UsageCounts()),
    ],
)
def test_each_shape_of_usage_is_read_inclusively(usage: dict[str, Any], expected: UsageCounts) -> None:
    assert counts_of(usage) == expected
