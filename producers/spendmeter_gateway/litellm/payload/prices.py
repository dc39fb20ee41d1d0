"""Prices under LiteLLM's names: its price list's, and those that the operator wrote over them. Pure."""

import importlib.metadata
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from spendmeter_gateway.pricing.token_prices import TIERS_THOUSANDS

_UNITS = ("token", "reasoning_token", "audio_token", "image_token", "image", "second", "character", "query")
_TIERS = ("", *(f"_above_{thousands}k_tokens" for thousands in TIERS_THOUSANDS))

# LiteLLM's name of a price: ours. Batch, flex and priority prices are left out: they bill no
# request that this payload describes, and the tiers name what may have.
PRICE_NAMES: Mapping[str, str] = {
    **{
        f"{way}_cost_per_{unit}{tier}": f"{way}_{unit}{tier}"
        for way in ("input", "output")
        for unit in _UNITS
        for tier in (_TIERS if unit == "token" else ("",))
    },
    **{f"cache_read_input_token_cost{tier}": f"cache_read_token{tier}" for tier in _TIERS},
    **{f"cache_creation_input_token_cost{tier}": f"cache_write_token{tier}" for tier in _TIERS},
    **{
        f"cache_creation_input_token_cost_above_1hr{tier}": f"cache_write_token_above_1hr{tier}"
        for tier in _TIERS
    },
}


_NO_PRICES: Mapping[str, Any] = MappingProxyType({})


class PriceMap(NamedTuple):
    """The prices of a call under LiteLLM's names."""

    prices: Mapping[str, Any]
    custom: Mapping[str, Any] = _NO_PRICES
    """Those of them that the operator wrote under the deployment's `litellm_params` or `model_info`."""


def price_map(listed: Mapping[str, Any], *written: Mapping[str, Any]) -> PriceMap:
    """The prices of a call: its list's, and over them what the operator wrote, the later source first."""
    custom: dict[str, Any] = {}
    for source in written:
        if source:
            custom.update(_written(source))
    return PriceMap({**listed, **custom}, custom) if custom else PriceMap(listed)


def _written(source: Mapping[str, Any]) -> dict[str, Any]:
    names = PRICE_NAMES.keys() & source.keys()
    return {name: source[name] for name in names if type(source[name]) in (int, float)}


def is_free_by_price(*sources: Mapping[str, Any]) -> bool:
    """Whether the operator wrote, in `litellm_params` or `model_info`, that a deployment costs nothing.

    Both prices of tokens are zero and nothing else has one; LiteLLM's own zeros are no such word.
    """
    written: dict[str, Any] = {}
    for source in sources:
        written.update(_written(source))
    names = ("input_cost_per_token", "output_cost_per_token")
    return all(written.get(name) == 0 for name in names) and not any(written.values())


def has_price_above_zero(prices: Mapping[str, Any]) -> bool:
    """Whether anything has a price; LiteLLM has a stub of zeros for each model that it does not know."""
    return bool(prices.get("tiered_pricing")) or any(
        isinstance(price := prices.get(name), int | float) and price > 0 for name in PRICE_NAMES
    )


def prices_of(price_map: PriceMap) -> dict[str, str]:
    """USD per unit as exact decimal strings, and `version`: `custom`, or LiteLLM's own price list."""
    source = price_map.prices
    if not source:
        return {}
    # Sorted, so that equal prices are equal bytes; LiteLLM's map has a hundred other fields.
    prices = {
        PRICE_NAMES[name]: _decimal(price)
        for name in sorted(PRICE_NAMES.keys() & source.keys())
        if isinstance(price := source[name], int | float) and not isinstance(price, bool)
    }
    if prices:
        prices["version"] = "custom" if price_map.custom else f"litellm {litellm_version()}"
    return prices


@lru_cache(maxsize=1)
def litellm_version() -> str:
    """The version of the installed LiteLLM, and with it of its price list; `unknown` without one."""
    try:
        return importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@lru_cache(maxsize=4096)
def _decimal(price: float) -> str:
    """The price without exponent, exactly as its shortest form reads (`0.00000015`)."""
    number = Decimal(repr(price))
    if not number.is_finite():
        return str(number)
    written = f"{number:f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
