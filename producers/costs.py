"""What a request cost and at which prices, from LiteLLM's payload."""

import importlib.metadata
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from producers.payload import mapping, request_metadata, tokens
from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd
from spendmeter.contract.usage import CostSource

_NOTHING_NANOUSD = NanoUsd(0)
_UNITS = ("token", "reasoning_token", "audio_token", "image_token", "image", "second", "character", "query")
TIERS_THOUSANDS = (100, 128, 200, 272, 512)
"""From so many thousand input tokens on LiteLLM may have other prices."""
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


class Cost(NamedTuple):
    """The amount billed, and how much it can be trusted."""

    amount: NanoUsd
    source: CostSource
    doubt: str | None
    """What LiteLLM reported, where it cannot be a cost; for the log."""


def cost_of(kwargs: Mapping[str, Any], prices: Mapping[str, str]) -> Cost:
    """The cost that LiteLLM reports, converted once.

    The payload's figure is the model's cost and that of guardrails; `kwargs["response_cost"]`, the
    model's alone, is None where LiteLLM found no price and the payload says 0.0. The items of
    `cost_breakdown` overlap and are never added up.
    """
    payload = mapping(kwargs.get("standard_logging_object"))
    model_cost = kwargs.get("response_cost")
    amount, doubt = _amount(payload.get("response_cost", model_cost))
    if doubt is not None:
        return Cost(_NOTHING_NANOUSD, CostSource.UNPRICED, doubt)
    if payload.get("cache_hit") is True or kwargs.get("cache_hit") is True:
        return Cost(amount, CostSource.CACHE, None)
    if payload.get("status") == "failure":
        return Cost(amount, CostSource.LITELLM, None)
    if model_cost is None or (amount == 0 and not _explains_zero(prices)):
        return Cost(amount, CostSource.UNPRICED, None)
    return Cost(amount, CostSource.LITELLM, None)


def prices_of(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """USD per unit as exact decimal strings, and `version`: `custom`, or LiteLLM's own price list."""
    model_map = mapping(mapping(kwargs.get("standard_logging_object")).get("model_map_information"))
    prices = _prices(mapping(model_map.get("model_map_value")))
    custom = _custom_prices(kwargs)
    prices.update(custom)
    if prices:
        prices["version"] = "custom" if custom else f"litellm {litellm_version()}"
    return prices


def images_of(payload: Mapping[str, Any]) -> int:
    """How many images the call made: those of its answer, or as many as were asked for."""
    if "image" not in str(payload.get("call_type")) or payload.get("status") == "failure":
        return 0
    made = mapping(payload.get("response")).get("data")
    if isinstance(made, list):
        return len(made)
    # An operator may have answers left out of what is logged.
    return tokens(mapping(payload.get("model_parameters")).get("n")) or 1


@lru_cache(maxsize=1)
def litellm_version() -> str:
    """The version of the installed LiteLLM, and with it of its price list; `unknown` without one."""
    try:
        return importlib.metadata.version("litellm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _explains_zero(prices: Mapping[str, str]) -> bool:
    """Whether a cost of zero can be the truth.

    An unknown model shows prices of zero in LiteLLM's map, just as a free one does; only the
    operator, who wrote the zero down, makes it free.
    """
    if prices.get("version") == "custom":
        return True
    return any(price != "0" for name, price in prices.items() if name != "version")


def _amount(usd: object) -> tuple[NanoUsd, str | None]:
    if usd is None:
        return _NOTHING_NANOUSD, None
    if isinstance(usd, bool) or not isinstance(usd, int | float):
        return _NOTHING_NANOUSD, f"a cost of type {type(usd).__name__}"
    try:
        amount = from_float_usd(float(usd))
    except (InvalidAmount, OverflowError):
        return _NOTHING_NANOUSD, f"a cost of {usd}"
    if amount < 0:
        return _NOTHING_NANOUSD, f"a negative cost of {usd}"
    return amount, None


def _custom_prices(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """What the operator wrote under the deployment's `litellm_params` or `model_info`."""
    custom: dict[str, str] = {}
    for metadata in request_metadata(kwargs):
        if "model_info" in metadata:
            custom.update(_prices(mapping(metadata["model_info"])))
    custom.update(_prices(mapping(kwargs.get("litellm_params"))))
    return custom


def _prices(source: Mapping[str, Any]) -> dict[str, str]:
    if not source:
        return {}
    # Sorted, so that equal prices are equal bytes; LiteLLM's map has a hundred other fields.
    return {
        PRICE_NAMES[name]: _decimal(price)
        for name in sorted(PRICE_NAMES.keys() & source.keys())
        if isinstance(price := source[name], int | float) and not isinstance(price, bool)
    }


@lru_cache(maxsize=4096)
def _decimal(price: float) -> str:
    """The price without exponent, exactly as its shortest form reads (`0.00000015`)."""
    number = Decimal(repr(price))
    if not number.is_finite():
        return str(number)
    written = f"{number:f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
