"""What a request cost and at which prices, from LiteLLM's payload."""

import importlib.metadata
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, NamedTuple

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd, from_usd
from spendmeter.contract.usage import CostSource, Doubt
from spendmeter_gateway.litellm.payload.fields import mapping, request_metadata, tokens
from spendmeter_gateway.model import UsageCounts
from spendmeter_gateway.pricing.token_prices import TIERS_THOUSANDS, cost_in_tokens

_NOTHING_NANOUSD = NanoUsd(0)
_ROUNDING_NANOUSD = 1
"""LiteLLM adds floats and we integers: half a nano-dollar may fall on either side."""
_STATE_THEIR_COST = ("openrouter", "perplexity", "xai")
"""Providers whose answers say what they cost, which LiteLLM takes over."""
_TOKENS_ARE_ALL = re.compile(
    r"a?(completion|text_completion|embedding|responses|anthropic_messages|generate_content(_stream)?)"
    r"|get_responses|aget_responses|pass_through_endpoint|a?llm_passthrough_route"
)
"""Calls that LiteLLM bills by their tokens. Others (batches, media, rerank) may be billed in other units."""
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


class Cost(NamedTuple):
    """The amount billed, and how much it can be trusted."""

    amount: NanoUsd
    source: CostSource
    doubt: Doubt | None = None
    """Why LiteLLM's figure does not count."""
    message: str | None = None
    """What LiteLLM reported where it is doubted; for the log."""


def price_of(
    counts: UsageCounts,
    prices: Mapping[str, Any],
    *,
    provider: str = "",
    service_tier: str | None = None,
    factor: Fraction | Decimal | int = 1,
    is_free: bool = False,
) -> Cost:
    """What a call costs by its tokens and its deployment's prices; `unpriced` where there is no price.

    `prices` are under LiteLLM's names; `is_free`: the operator wrote their zeros (`is_free_by_price`).
    """
    try:
        amount = cost_in_tokens(counts, prices, provider=provider, service_tier=service_tier, factor=factor)
    except InvalidAmount as error:
        return Cost(_NOTHING_NANOUSD, CostSource.UNPRICED, None, str(error))
    if amount is None or not (amount or is_free or _has_price_above_zero(prices)):
        # LiteLLM has a stub of zeros for each model that it does not know.
        return Cost(_NOTHING_NANOUSD, CostSource.UNPRICED)
    return Cost(amount, CostSource.TOKENS)


def cost_of(
    kwargs: Mapping[str, Any],
    counts: UsageCounts,
    price_map: PriceMap,
    provider: str,
    *,
    is_estimate: bool = False,
) -> Cost:
    """What a logged call cost: LiteLLM's figure, or tokens times prices where that figure cannot be.

    The rule is in docs/prices.md. Where the counts are an estimate of ours, LiteLLM's figure lacks something
    too: ours counts, without a doubt. The payload's figure is the model's cost and that of guardrails;
    `kwargs["response_cost"]`, the model's alone, is None where LiteLLM found no price and its payload says 0.
    """
    payload = mapping(kwargs.get("standard_logging_object"))
    model_usd = kwargs.get("response_cost")
    total_usd = payload.get("response_cost", model_usd)
    total, problem = _amount(total_usd)
    model, model_problem = (total, problem) if model_usd == total_usd else _amount(model_usd)
    if payload.get("cache_hit") is True or kwargs.get("cache_hit") is True:
        doubt = None if problem is None else Doubt.NOT_A_COST
        return Cost(total, CostSource.CACHE, doubt, problem)
    prices, custom = price_map
    is_free = bool(custom) and is_free_by_price(custom)
    ours = max(_reckoned(payload, counts, prices, provider), _spoken(kwargs, payload, prices))
    if problem is not None or model_problem is not None:
        return _instead(Doubt.NOT_A_COST, max(ours, total), problem or model_problem)
    besides = NanoUsd(max(0, total - model))
    parts = _parts_above(payload, model)
    doubt = _doubted(kwargs, payload, provider, price_map, model, ours, parts)
    # The list may have other prices of a model that the operator made free.
    if doubt and not (is_free and not model):
        message = f"a cost of {model} nano-USD where its parts come to {parts} and its tokens to {ours}"
        amount = NanoUsd(max(ours, parts, model) + besides)
        return Cost(amount, CostSource.TOKENS) if is_estimate else _instead(doubt, amount, message)
    if payload.get("status") == "failure" or is_free or total:
        is_known = model_usd is not None or is_free or payload.get("status") == "failure"
        return Cost(total, CostSource.LITELLM if is_known else CostSource.UNPRICED)
    if model_usd is None or not _has_price_above_zero(prices):
        return Cost(total, CostSource.UNPRICED)
    # Too little to be a nano-dollar, or nothing of what has a price was used.
    return Cost(total, CostSource.LITELLM)


_SPEECH = ("speech", "aspeech")


def _instead(doubt: Doubt, ours: NanoUsd, message: str | None) -> Cost:
    return Cost(ours, CostSource.TOKENS if ours else CostSource.UNPRICED, doubt, message)


def _doubted(
    kwargs: Mapping[str, Any],
    payload: Mapping[str, Any],
    provider: str,
    price_map: PriceMap,
    model: NanoUsd,
    ours: NanoUsd,
    parts: NanoUsd,
) -> Doubt | None:
    if not model and ours:
        return Doubt.ZERO
    if model + _ROUNDING_NANOUSD < parts:
        return Doubt.BELOW_PARTS
    call_type = str(payload.get("call_type") or kwargs.get("call_type"))
    is_all = call_type in _SPEECH or _TOKENS_ARE_ALL.fullmatch(call_type) is not None
    if model + _ROUNDING_NANOUSD < ours and is_all:
        # Their bill is what they say, unless the operator has written prices of their own.
        if provider in _STATE_THEIR_COST and not price_map.custom:
            return None
        return Doubt.BELOW_TOKENS
    return None


def _spoken(kwargs: Mapping[str, Any], payload: Mapping[str, Any], prices: Mapping[str, Any]) -> NanoUsd:
    """What speech costs by the characters of its text: LiteLLM leaves the spaces out, providers bill them."""
    given, price = kwargs.get("input"), prices.get("input_cost_per_character")
    call_type = payload.get("call_type") or kwargs.get("call_type")
    if call_type not in _SPEECH or not isinstance(given, str) or payload.get("status") != "success":
        return _NOTHING_NANOUSD
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < 1:
        return _NOTHING_NANOUSD
    return from_usd(Decimal(repr(price)) * len(given))


def _reckoned(
    payload: Mapping[str, Any], counts: UsageCounts, prices: Mapping[str, Any], provider: str
) -> NanoUsd:
    """The least that these tokens can cost at these prices; 0 where there is none.

    What LiteLLM says of discounts, margins and the service tier is believed: they are the operator's and the
    provider's. Off-peak prices count where they are lower, as nobody tells which of them were in force.
    """
    if not (counts.input_tokens or counts.output_tokens):
        return _NOTHING_NANOUSD
    breakdown = mapping(payload.get("cost_breakdown"))
    tier = breakdown.get("service_tier")
    if tier is None:
        tier = mapping(mapping(payload.get("metadata")).get("usage_object")).get("service_tier")
    lists = [prices]
    if isinstance(off_peak := prices.get("off_peak_pricing"), Mapping):
        lists.append(
            {**prices, **{n: p for n, p in off_peak.items() if n in PRICE_NAMES}, "tiered_pricing": None}
        )
    try:
        found = [
            cost_in_tokens(counts, one, provider=provider, service_tier=tier, factor=_factor(breakdown))
            for one in lists
        ]
    except InvalidAmount:
        return _NOTHING_NANOUSD
    return min((amount for amount in found if amount is not None), default=_NOTHING_NANOUSD)


def _factor(breakdown: Mapping[str, Any]) -> Fraction | int:
    """What the operator's discount leaves, and a margin below zero."""
    discount, margin = breakdown.get("discount_percent"), breakdown.get("margin_percent")
    if not discount and not margin:
        return 1
    left = Fraction(1)
    if isinstance(discount, int | float) and 0 < discount <= 1:
        left *= 1 - Fraction(repr(float(discount)))
    if isinstance(margin, int | float) and -1 <= margin < 0:
        left *= 1 + Fraction(repr(float(margin)))
    return left if left != 1 else 1


def _parts_above(payload: Mapping[str, Any], model: NanoUsd) -> NanoUsd:
    """What LiteLLM's own parts come to after discount and margin; 0 where that is no more than its figure.

    The other items of `cost_breakdown` are parts of these and are never added.
    """
    breakdown = mapping(payload.get("cost_breakdown"))
    if not breakdown:
        return _NOTHING_NANOUSD
    named = [breakdown.get(name) for name in ("input_cost", "output_cost", "tool_usage_cost")]
    added = [*named, *mapping(breakdown.get("additional_costs")).values()]
    known = [usd for usd in added if isinstance(usd, int | float) and isfinite(usd)]
    margin = breakdown.get("margin_total_amount")
    below = min(0.0, margin) if isinstance(margin, int | float) and isfinite(margin) else 0.0
    discount = breakdown.get("discount_amount")
    below -= discount if isinstance(discount, int | float) and isfinite(discount) else 0.0
    total = sum(known) + below
    return _amount(total)[0] if total * 1e9 > model else _NOTHING_NANOUSD


def price_map_of(kwargs: Mapping[str, Any]) -> PriceMap:
    """The prices of a logged call: its list's, and over them what the operator wrote."""
    model_map = mapping(mapping(kwargs.get("standard_logging_object")).get("model_map_information"))
    listed = mapping(model_map.get("model_map_value"))
    custom: dict[str, Any] = {}
    for metadata in request_metadata(kwargs):
        if info := metadata.get("model_info"):
            custom.update(_written(mapping(info)))
    custom.update(_written(mapping(kwargs.get("litellm_params"))))
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


def _has_price_above_zero(prices: Mapping[str, Any]) -> bool:
    return bool(prices.get("tiered_pricing")) or any(
        isinstance(price := prices.get(name), int | float) and price > 0 for name in PRICE_NAMES
    )


def prices_of(price_map: PriceMap) -> dict[str, str]:
    """USD per unit as exact decimal strings, and `version`: `custom`, or LiteLLM's own price list."""
    prices = _prices(price_map.prices)
    if prices:
        prices["version"] = "custom" if price_map.custom else f"litellm {litellm_version()}"
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
