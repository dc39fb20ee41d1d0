"""What a call cost: LiteLLM's figure, or tokens times prices where that cannot be. Pure."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_float_usd, from_usd
from spendmeter.contract.usage import CostSource, Doubt
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall
from spendmeter_gateway.litellm.payload.prices import (
    PRICE_NAMES,
    PriceMap,
    has_price_above_zero,
    is_free_by_price,
)
from spendmeter_gateway.model import UsageCounts
from spendmeter_gateway.pricing.token_prices import cost_in_tokens

_NOTHING_NANOUSD = NanoUsd(0)
_ROUNDING_NANOUSD = 1
"""LiteLLM adds floats and we integers: half a nano-dollar may fall on either side."""
_STATE_THEIR_COST = ("openrouter", "perplexity", "xai")
"""Providers whose answers say what they cost; LiteLLM uses that figure."""
_TOKENS_ARE_ALL = re.compile(
    r"a?(completion|text_completion|embedding|responses|anthropic_messages|generate_content(_stream)?)"
    r"|get_responses|aget_responses|pass_through_endpoint|a?llm_passthrough_route"
)
"""Calls that LiteLLM bills by their tokens. Others (batches, media, rerank) may be billed in other units."""
_SPEECH = ("speech", "aspeech")


class Cost(NamedTuple):
    """The amount billed, and how much it can be trusted."""

    amount: NanoUsd
    source: CostSource
    doubt: Doubt | None = None
    """Why LiteLLM's figure does not count."""
    message: str | None = None
    """What LiteLLM reported where it is doubted; for the log."""


def cost_of(call: LoggedCall, counts: UsageCounts, price_map: PriceMap, *, is_estimate: bool = False) -> Cost:
    """What a logged call cost: LiteLLM's figure, or tokens times prices where that figure cannot be.

    The rule is in docs/prices.md. Where the counts are an estimate of ours, LiteLLM's figure lacks something
    too: ours counts, without a doubt.
    """
    total, problem = _amount(call.total_usd)
    is_one = call.model_usd == call.total_usd
    model, model_problem = (total, problem) if is_one else _amount(call.model_usd)
    if call.is_cached:
        doubt = None if problem is None else Doubt.NOT_A_COST
        return Cost(total, CostSource.CACHE, doubt, problem)
    prices, custom = price_map
    is_free = bool(custom) and is_free_by_price(custom)
    ours = max(_reckoned(call, counts, prices), _spoken(call, prices))
    if problem is not None or model_problem is not None:
        return _instead(Doubt.NOT_A_COST, max(ours, total), problem or model_problem)
    besides = NanoUsd(max(0, total - model))
    parts = _amount(call.parts.usd)[0] if call.parts.usd * 1e9 > model else _NOTHING_NANOUSD
    doubt = _doubted(call, price_map, model, ours, parts)
    # The list may have other prices of a model that the operator made free.
    if doubt and not (is_free and not model):
        message = f"a cost of {model} nano-USD where its parts come to {parts} and its tokens to {ours}"
        amount = NanoUsd(max(ours, parts, model) + besides)
        return Cost(amount, CostSource.TOKENS) if is_estimate else _instead(doubt, amount, message)
    is_known = call.model_usd is not None
    if call.is_failure or is_free or total:
        source = CostSource.LITELLM if is_known or is_free or call.is_failure else CostSource.UNPRICED
        return Cost(total, source)
    # Else too little to be a nano-dollar, or nothing of what has a price was used.
    is_known = is_known and has_price_above_zero(prices)
    return Cost(total, CostSource.LITELLM if is_known else CostSource.UNPRICED)


def _instead(doubt: Doubt, ours: NanoUsd, message: str | None) -> Cost:
    return Cost(ours, CostSource.TOKENS if ours else CostSource.UNPRICED, doubt, message)


def _doubted(
    call: LoggedCall, price_map: PriceMap, model: NanoUsd, ours: NanoUsd, parts: NanoUsd
) -> Doubt | None:
    if not model and ours:
        return Doubt.ZERO
    if model + _ROUNDING_NANOUSD < parts:
        return Doubt.BELOW_PARTS
    is_all = call.call_type in _SPEECH or _TOKENS_ARE_ALL.fullmatch(call.call_type) is not None
    if model + _ROUNDING_NANOUSD < ours and is_all:
        # Their bill is what they say, unless the operator has written prices of their own.
        if call.provider in _STATE_THEIR_COST and not price_map.custom:
            return None
        return Doubt.BELOW_TOKENS
    return None


def _spoken(call: LoggedCall, prices: Mapping[str, Any]) -> NanoUsd:
    """What speech costs by the characters of its text: LiteLLM leaves the spaces out, providers bill them."""
    given, price = call.sent.get("input"), prices.get("input_cost_per_character")
    if call.call_type not in _SPEECH or not isinstance(given, str) or not call.is_success:
        return _NOTHING_NANOUSD
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 < price < 1:
        return _NOTHING_NANOUSD
    return from_usd(Decimal(repr(price)) * len(given))


def _reckoned(call: LoggedCall, counts: UsageCounts, prices: Mapping[str, Any]) -> NanoUsd:
    """The least that these tokens can cost at these prices; 0 where there is none.

    What LiteLLM says of discounts, margins and the service tier is believed: they are the operator's and the
    provider's. Off-peak prices count where they are lower, as nobody says which of them were in force.
    """
    if not (counts.input_tokens or counts.output_tokens):
        return _NOTHING_NANOUSD
    lists = [prices]
    if isinstance(off_peak := prices.get("off_peak_pricing"), Mapping):
        lists.append(
            {**prices, **{n: p for n, p in off_peak.items() if n in PRICE_NAMES}, "tiered_pricing": None}
        )
    tier, factor = call.parts.service_tier, call.parts.factor
    try:
        found = [
            cost_in_tokens(counts, one, provider=call.provider, service_tier=tier, factor=factor)
            for one in lists
        ]
    except InvalidAmount:
        return _NOTHING_NANOUSD
    return min((amount for amount in found if amount is not None), default=_NOTHING_NANOUSD)


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
