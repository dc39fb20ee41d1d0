"""LiteLLM's own controls in a body that could change who pays, at which price, or what is logged. Pure.

They are taken out, also of fallback entries, which the router merges into a call after it was admitted.
What changes the route, the number or length of calls (`fallbacks`, `num_retries`, `timeout`, lists of
models) stays: each call to a deployment is judged and counted by itself. A provider's parameters always pass.
"""

from collections.abc import Mapping
from typing import Any

CONTROLS: Mapping[str, str] = {
    "no-log": "LiteLLM would not log the call",
    "litellm_logging_obj": "replaces what LiteLLM logs with",
    "litellm_call_id": "names the call in LiteLLM's log",
    "standard_callback_dynamic_params": "redirects callbacks",
    "litellm_disabled_callbacks": "switches callbacks off",
    "callbacks": "replaces callbacks",
    "success_callback": "replaces callbacks",
    "failure_callback": "replaces callbacks",
    "base_model": "chooses whose price counts",
    "model_info": "brings prices of its own",
    "tiered_pricing": "brings prices of its own",
    "custom_pricing": "brings prices of its own",
    "cost_discount_config": "brings a discount of its own",
    "cost_margin_config": "brings a margin of its own",
    "max_retries": "the provider's client would repeat a call without LiteLLM, or us, knowing",
}
"""Taken out of a body, at its top and in fallback entries: name and what it does."""

IN_FALLBACKS: Mapping[str, str] = {
    "metadata": "replaces what LiteLLM knows of the caller",
    "litellm_metadata": "replaces what LiteLLM knows of the caller",
    "custom_llm_provider": "sends the model to another provider's protocol, at its price or none",
}
"""Taken out of fallback entries as well."""

_PRICE = "_cost_per_"
_LITELLMS_OWN = frozenset({"litellm_logging_obj", "litellm_call_id"})
# LiteLLM puts these into a body itself before it asks us.
_FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
# Calls whose model the router resolves: there a client has no say in the provider.
_ROUTED = frozenset(
    {"completion", "acompletion", "text_completion", "atext_completion", "embeddings", "embedding",
     "aembedding", "responses", "aresponses", "anthropic_messages"}
)  # fmt: skip
# A body's fallbacks may be nested as deep as a client likes; what is deeper goes.
MAX_DEPTH = 8
MAX_ENTRIES = 1_000


def strip_controls(data: dict[str, Any], call_type: str) -> tuple[str, ...]:
    """Take the controls out of a body, in place; returns the names of those that were there."""
    stripped = [name for name in data if _is_control(name) and name not in _LITELLMS_OWN]
    if call_type in _ROUTED and "custom_llm_provider" in data and isinstance(data.get("model"), str):
        stripped.append("custom_llm_provider")
    for name in stripped:
        del data[name]
    for name in _FALLBACKS:
        if name in data:
            data[name] = _entries(data[name], stripped, MAX_DEPTH, [MAX_ENTRIES])
    return tuple(dict.fromkeys(map(str, stripped)))


def _is_control(name: object) -> bool:
    return isinstance(name, str) and (name in CONTROLS or _PRICE in name)


def _entries(value: object, stripped: list[Any], depth: int, left: list[int]) -> object:
    """The value without controls in any object of it; None for what is too deep or too much."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return None
    if isinstance(value, list):
        return [_entries(one, stripped, depth - 1, left) for one in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, of in value.items():
        if _is_control(name) or name in IN_FALLBACKS:
            stripped.append(name)
        elif isinstance(of, list) and name not in ("messages", "tools", "input"):
            kept[name] = _entries(of, stripped, depth - 1, left)
        else:
            kept[name] = of
    return kept
