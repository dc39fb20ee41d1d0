"""Our tokens times prices beside LiteLLM's own cost, over its own price list: equal to the nano-dollar."""

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import litellm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.types.utils import ModelResponse, Usage

from spendmeter.contract.money import from_float_usd
from spendmeter_gateway.litellm.payload.usage_counts import counts_of
from spendmeter_gateway.pricing.token_prices import cost_in_tokens

# Those whose calculator is LiteLLM's general one, or ours by name (see token_prices).
PROVIDERS = (
    "openai",
    "anthropic",
    "gemini",
    "azure",
    "bedrock",
    "vertex_ai-language-models",
    "deepseek",
    "mistral",
    "groq",
    "xai",
    "cohere_chat",
    "fireworks_ai",
    "dashscope",
    "openrouter",
    "cerebras",
)
EACH = 8
TIERS = (None, "flex", "priority")


def _models() -> list[tuple[str, str]]:
    """Of each provider EACH models: those that have a kind of price which none before them has come first."""
    found: dict[str, list[str]] = {}
    for name, prices in litellm.model_cost.items():
        provider = str(prices.get("litellm_provider"))
        is_asked = provider in PROVIDERS and prices.get("mode") in ("chat", "responses")
        if is_asked and _is_plain(prices) and _is_named(name):
            found.setdefault(provider, []).append(name)
    return [(provider, name) for provider, names in found.items() for name in _most_kinds(names)]


def _most_kinds(names: list[str]) -> list[str]:
    chosen: list[str] = []
    seen: set[str] = set()
    left = {name: _kinds(litellm.model_cost[name]) for name in names}
    while left and len(chosen) < EACH:
        name = max(left, key=lambda one: (len(left[one] - seen), one))
        seen |= left.pop(name)
        chosen.append(name)
    return chosen


def _kinds(prices: Mapping[str, Any]) -> set[str]:
    """The names of its prices, and what it leaves out or prices unlike the tokens that it is part of."""
    kinds = {field for field in prices if "cost" in field or field == "tiered_pricing"}
    per_output = prices.get("output_cost_per_token")
    if prices.get("output_cost_per_reasoning_token") not in (None, per_output):
        kinds.add("reasoning unlike output")
    if "cache_read_input_token_cost" not in prices:
        kinds.add("no cache read")
    return kinds


def _is_plain(prices: Mapping[str, Any]) -> bool:
    # Off-peak hours are LiteLLM's to know; a negative price is no price.
    listed = (prices.get("input_cost_per_token"), prices.get("output_cost_per_token"))
    return "off_peak_pricing" not in prices and (
        bool(prices.get("tiered_pricing")) or all(isinstance(p, float) and p > 0 for p in listed)
    )


def _is_named(name: str) -> bool:
    """Whether LiteLLM can tell the provider by the model's name."""
    try:
        litellm.get_llm_provider(name)
    except litellm.BadRequestError:
        return False
    return True


MODELS = _models()

# LiteLLM's own models say ReadOnly of fields; pydantic warns of it when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*ReadOnly:UserWarning")

LIMITS = [n * 1_000 + more for n in (32, 100, 128, 200, 256, 272, 512) for more in (0, 1)]
few = st.integers(0, 3_000)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    read, write, hour, audio, image = (draw(few) for _ in range(5))
    detailed = draw(st.integers(0, 3)) > 0
    given = draw(few) + read + write + hour + audio + image
    if draw(st.booleans()):
        given = draw(st.sampled_from(LIMITS))
    answer, reasoning, spoken = draw(st.integers(0, 200_000)), draw(few), draw(few)
    usage: dict[str, Any] = {
        "prompt_tokens": given,
        "completion_tokens": answer + reasoning + spoken,
        "total_tokens": given + answer + reasoning + spoken,
    }
    if detailed:
        usage["prompt_tokens_details"] = {
            "cached_tokens": read,
            "cache_creation_tokens": write + hour,
            "cache_creation_token_details": {
                "ephemeral_5m_input_tokens": write,
                "ephemeral_1h_input_tokens": hour,
            },
            "audio_tokens": audio,
            "image_tokens": image,
        }
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning, "audio_tokens": spoken}
    return usage


def test_there_are_enough_models_of_enough_providers() -> None:
    assert len(MODELS) >= 60
    assert len({provider for provider, _ in MODELS}) >= 10


@pytest.mark.parametrize(("provider", "model"), MODELS)
@settings(max_examples=25, deadline=None)
@given(usage=usages(), tier=st.sampled_from(TIERS))
def test_tokens_times_prices_are_what_litellm_bills(
    provider: str, model: str, usage: dict[str, Any], tier: str | None
) -> None:
    name, provider, _, _ = litellm.get_llm_provider(model)
    theirs = litellm.completion_cost(
        completion_response=ModelResponse(model=model, usage=Usage(**usage)),
        model=name,
        custom_llm_provider=provider,
        optional_params={"service_tier": tier} if tier else {},
    )
    listed = dict(litellm.get_model_info(name, provider))
    has_tiers = provider in ("openai", "anthropic", "gemini", "azure", "bedrock", "vertex_ai")
    given_counts = counts_of(Usage(**usage).model_dump())
    ours = cost_in_tokens(given_counts, listed, provider=provider, service_tier=tier if has_tiers else None)

    assert ours is not None
    expected = from_float_usd(theirs)
    if ours != expected:
        # LiteLLM's float may fall on either side of half a nano-dollar.
        rest = Fraction(theirs) * 10**9 % 1
        assert abs(ours - expected) == 1, (ours, expected)
        assert abs(rest - Fraction(1, 2)) < Fraction(1, 10**3)
