"""LiteLLM's controls in a body: what could change owner, price or log goes, everything else stays."""

import copy
from typing import Any

import pytest

from producers.controls import CONTROLS, strip_controls

ORDINARY: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi", "base_model": "a client's own text"}],
    "metadata": {"purpose": "a pair of OpenAI's own"},
    "user": "u",
    "store": True,
    "prompt_cache_key": "k",
    "service_tier": "flex",
    "extra_body": {"vendor_field": 1, "model_info": {"mine": True}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"input_cost_per_token": 1}}}],
    "num_retries": 3,
    "timeout": 5,
    "fallbacks": ["gpt-4o-mini", {"model": "claude", "messages": [{"role": "user", "content": "x"}]}],
    "never_heard_of": {"a": 1},
}


def test_an_ordinary_body_stays_as_it_is() -> None:
    data = copy.deepcopy(ORDINARY)
    assert strip_controls(data, "acompletion") == ()
    assert data == ORDINARY


@pytest.mark.parametrize("name", [name for name in CONTROLS if not name.startswith("litellm_")])
def test_a_control_is_taken_out_at_the_top(name: str) -> None:
    data = copy.deepcopy(ORDINARY) | {name: {"x": 1}}
    assert strip_controls(data, "acompletion") == (name,)
    assert data == ORDINARY


@pytest.mark.parametrize(
    "name", ["input_cost_per_token", "output_cost_per_token_batches", "ocr_cost_per_page"]
)
def test_any_price_is_taken_out(name: str) -> None:
    data = copy.deepcopy(ORDINARY) | {name: 0}
    assert strip_controls(data, "acompletion") == (name,)
    assert data == ORDINARY


@pytest.mark.parametrize("where", ["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"])
@pytest.mark.parametrize(
    "name",
    ["metadata", "litellm_metadata", "base_model", "no-log", "litellm_call_id", "input_cost_per_token",
     "custom_llm_provider"],
)  # fmt: skip
def test_a_fallback_brings_none_into_its_call(where: str, name: str) -> None:
    entry = {"model": "claude", "temperature": 0.5}
    data: dict[str, Any] = {"model": "m", where: [entry | {name: {}}, {"m": [entry | {name: 1}, "plain"]}]}
    assert strip_controls(data, "acompletion") == (name,)
    assert data[where] == [entry, {"m": [entry, "plain"]}]


def test_what_litellm_itself_puts_into_a_body_stays() -> None:
    data = {"model": "m", "litellm_logging_obj": object(), "litellm_call_id": "c"}
    assert strip_controls(dict(data), "acompletion") == ()


def test_the_provider_of_a_routed_model_is_the_operators_choice_and_of_a_file_the_clients() -> None:
    data = {"model": "m", "custom_llm_provider": "hosted_vllm"}
    assert strip_controls(dict(data), "acompletion") == ("custom_llm_provider",)
    assert strip_controls({"custom_llm_provider": "azure"}, "acreate_file") == ()


def test_fallbacks_that_are_too_deep_or_too_many_are_cut() -> None:
    deep: Any = "m"
    for _ in range(2_000):
        deep = [deep]
    data: dict[str, Any] = {"model": "m", "fallbacks": deep, "context_window_fallbacks": ["m"] * 5_000}
    strip_controls(data, "acompletion")
    assert len(str(data["fallbacks"])) < 100
    assert data["context_window_fallbacks"][-1] is None
