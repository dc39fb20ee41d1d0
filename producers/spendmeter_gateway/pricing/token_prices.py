"""Tokens × listed prices, in exact integers. Pure.

The rates are LiteLLM's own fields, of a deployment's `model_info` and `litellm_params` or its price list.
Which of them a token is billed at is LiteLLM's rule (`generic_cost_per_token` of 1.106.2): by input size,
service tier and kind of token. tests/property/producers/pricing/test_token_prices.py holds it to LiteLLM's.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, InvalidAmount, NanoUsd
from spendmeter_gateway.model import UsageCounts

TIERS_THOUSANDS = (100, 128, 200, 272, 512)
"""Thresholds in thousand input tokens above which LiteLLM may have other prices."""

# A float's shortest form has 17 digits; this unit represents all of them for any price above 10**-13 USD.
_UNITS_PER_USD: Final = 10**30
_UNITS_PER_NANO: Final = 10**21
_ABOVE: Final = tuple((thousands * 1000, f"_above_{thousands}k_tokens") for thousands in TIERS_THOUSANDS)
_SUFFIX_OF_TIER: Final = {
    "flex": "_flex",
    "balanced": "_balanced",
    "priority": "_priority",
    "fast": "_priority",
    "ultrafast": "_ultrafast",
}
# The providers for which LiteLLM does not use its general rule.
_TIER_BEGINS_AT_ITS_LIMIT = ("xai",)
_REASONING_IS_OUTPUT = ("xai",)
_CACHE_READ_IS_HALF = ("fireworks_ai",)
_FIRST_OTHER: Final = UsageCounts._fields.index("input_images")
_BY_TIME = ("cost_per_second", "input_cost_per_second", "output_cost_per_second")


def cost_in_tokens(
    counts: UsageCounts,
    prices: Mapping[str, Any],
    *,
    provider: str = "",
    service_tier: str | None = None,
    factor: Fraction | Decimal | int = 1,
) -> NanoUsd | None:
    """The cost of the usage at these prices, rounded once, half to even at the nano-dollar; None without a
    price.

    `factor` multiplies it: a regional surcharge, a discount. Zero counts as a price here, although LiteLLM
    has zeros for each model that it does not know.

    Raises:
        InvalidAmount: above the largest amount that we can store.
    """
    if not is_priced(prices):
        return None
    units = _token_units(counts, prices, provider, service_tier) + _other_units(counts, prices)
    exact = Fraction(units) * Fraction(factor) / _UNITS_PER_NANO if factor != 1 else None
    amount = _half_to_even(units) if exact is None else round(exact)
    if abs(amount) > LIMIT_OF_AMOUNTS_NANOUSD:
        raise InvalidAmount(f"{counts} at these prices is above the largest amount that can be stored")
    return NanoUsd(amount)


def is_priced(prices: Mapping[str, Any]) -> bool:
    """Whether there is any price, zero included."""
    return bool(prices.get("tiered_pricing")) or any(
        "cost_per" in name and isinstance(price, int | float) for name, price in prices.items()
    )


def has_token_price(prices: Mapping[str, Any]) -> bool:
    """Whether tokens have a price above zero."""
    return bool(prices.get("tiered_pricing")) or any(
        (_units(prices.get(name)) or 0) > 0 for name in ("input_cost_per_token", "output_cost_per_token")
    )


def _token_units(
    counts: UsageCounts, prices: Mapping[str, Any], provider: str, service_tier: str | None
) -> int:
    suffix = _SUFFIX_OF_TIER.get(service_tier.lower(), "") if isinstance(service_tier, str) else ""
    rates = _Rates(prices, counts.input_tokens, provider, suffix)
    by_characters = (
        bool(counts.input_characters) and _units(prices.get("input_cost_per_character")) is not None
    )
    by_pictures = bool(counts.input_images) and _units(prices.get("input_cost_per_image")) is not None
    media = counts.input_audio_tokens + counts.input_image_tokens + counts.input_video_tokens
    text = max(0, counts.input_tokens - counts.cache_read_tokens - counts.cache_write_tokens - media)
    cached_audio = counts.cache_read_audio_tokens
    hour = counts.cache_write_1h_tokens
    total = 0 if by_characters else text * rates.input
    total += (counts.cache_read_tokens - cached_audio) * rates.cache_read
    total += (counts.cache_write_tokens - hour) * rates.cache_write + hour * rates.cache_write_1h
    if cached_audio:
        total += cached_audio * rates.of("cache_read_input_audio_token_cost", rates.cache_read)
    if media:
        total += counts.input_audio_tokens * rates.of("input_cost_per_audio_token", rates.input)
        total += counts.input_video_tokens * rates.of("input_cost_per_video_token", rates.input)
        if not by_pictures:
            total += counts.input_image_tokens * rates.of("input_cost_per_image_token", rates.input)
    if provider in _REASONING_IS_OUTPUT:
        return total + counts.output_tokens * rates.output
    made = counts.output_audio_tokens + counts.output_image_tokens + counts.output_video_tokens
    plain = max(0, counts.output_tokens - counts.reasoning_tokens - made)
    total += plain * rates.output + counts.reasoning_tokens * rates.reasoning
    if made:
        total += counts.output_audio_tokens * _or(prices, "output_cost_per_audio_token", rates.output)
        total += counts.output_image_tokens * _or(prices, "output_cost_per_image_token", rates.output)
        total += counts.output_video_tokens * _or(prices, "output_cost_per_video_token", rates.output)
    return total


def _other_units(counts: UsageCounts, prices: Mapping[str, Any]) -> int:
    if not any(counts[_FIRST_OTHER:]):
        return 0
    total = counts.input_characters * _or(prices, "input_cost_per_character", 0)
    total += counts.input_images * _or(prices, "input_cost_per_image", 0)
    total += counts.queries * _or(prices, "input_cost_per_query", 0)
    total += counts.requests * _or(prices, "input_cost_per_request", 0)
    if counts.images and not counts.output_tokens:
        total += counts.images * _or(prices, "output_cost_per_image", 0)
    if counts.duration_ms and not has_token_price(prices):
        per_second = next((u for name in _BY_TIME if (u := _units(prices.get(name))) is not None), 0)
        total += counts.duration_ms * per_second // 1000
    return total


class _Rates:
    """The cost of a token of each kind in a request of that size and tier."""

    def __init__(self, prices: Mapping[str, Any], input_tokens: int, provider: str, suffix: str) -> None:
        self._prices, self._suffix = prices, suffix
        tier = _priced_tier(prices, input_tokens)
        if tier is not None:
            self._deduct(tier)
            return
        read: int | None
        self.input = self.of("input_cost_per_token", 0)
        self.output = self.of("output_cost_per_token", 0) or _or(prices, "output_cost_per_image_token", 0)
        read = self._of("cache_read_input_token_cost")
        if read is None and provider in _CACHE_READ_IS_HALF:
            read = self.input // 2
        write = self._of("cache_creation_input_token_cost")
        hour = _units(prices.get("cache_creation_input_token_cost_above_1hr"))
        for limit, above in _ABOVE:
            if input_tokens > limit or (input_tokens == limit and provider in _TIER_BEGINS_AT_ITS_LIMIT):
                self.input = self.of(f"input_cost_per_token{above}", self.input)
                self.output = self.of(f"output_cost_per_token{above}", self.output)
                read = self._or(f"cache_read_input_token_cost{above}", read)
                write = self._or(f"cache_creation_input_token_cost{above}", write)
                hour = self._or(f"cache_creation_input_token_cost_above_1hr{above}", hour)
        self.cache_read = self.input if read is None else read
        self.cache_write = self.input if write is None else write
        self.cache_write_1h = self.cache_write if hour is None else hour
        self.reasoning = self._reasoning()

    def of(self, name: str, otherwise: int) -> int:
        """The price with that name in the request's service tier, else without a tier, else `otherwise`."""
        found = self._of(name)
        return otherwise if found is None else found

    def _of(self, name: str) -> int | None:
        if self._suffix and (tiered := _units(self._prices.get(name + self._suffix))) is not None:
            return tiered
        return _units(self._prices.get(name))

    def _or(self, name: str, otherwise: int | None) -> int | None:
        found = self._of(name)
        return otherwise if found is None else found

    def _reasoning(self) -> int:
        name = "output_cost_per_reasoning_token"
        if self._suffix:
            if (tiered := _units(self._prices.get(name + self._suffix))) is not None:
                return tiered
            if self._prices.get(f"output_cost_per_token{self._suffix}") is not None:
                return self.output
        return _or(self._prices, name, self.output)

    def _deduct(self, tier: Mapping[str, Any]) -> None:
        """The rates of one tier of `tiered_pricing`; a missing rate is that of input or output."""
        self.input = _or(tier, "input_cost_per_token", 0)
        self.output = _or(tier, "output_cost_per_token", _or(self._prices, "output_cost_per_token", 0))
        self.cache_write = _or(tier, "cache_creation_input_token_cost", self.input)
        self.cache_write_1h = (
            _or(tier, "cache_creation_input_token_cost_above_1hr", self.cache_write) or self.cache_write
        )
        self.cache_read = _or(tier, "cache_read_input_token_cost", self.input)
        self.reasoning = _or(tier, "output_cost_per_reasoning_token", _or(tier, "output_cost_per_token", 0))


def _priced_tier(prices: Mapping[str, Any], input_tokens: int) -> Mapping[str, Any] | None:
    """The tier of `tiered_pricing` whose range includes the request; above all ranges the last."""
    tiers = prices.get("tiered_pricing")
    if not isinstance(tiers, list) or input_tokens <= 0:
        return None
    ranged = [tier for tier in tiers if isinstance(tier, Mapping) and _range(tier) is not None]
    ranged.sort(key=lambda tier: (_range(tier) or (0, 0))[0])
    fitting = (t for t in ranged if (r := _range(t)) is not None and r[0] < input_tokens <= r[1])
    found = next(fitting, ranged[-1] if ranged else None)
    return found if found is not None and "input_cost_per_token" in found else None


def _range(tier: Mapping[str, Any]) -> tuple[float, float] | None:
    found = tier.get("range")
    if not isinstance(found, list | tuple) or len(found) != 2:
        return None
    if not all(isinstance(end, int | float) for end in found):
        return None
    return found[0], found[1]


def _or(prices: Mapping[str, Any], name: str, otherwise: int) -> int:
    found = _units(prices.get(name))
    return otherwise if found is None else found


def _units(price: object) -> int | None:
    """A price in USD as units, exactly the value of its shortest form; None if it is not a price.

    A configuration may hold a text such as `3e-7`: LiteLLM reads it as the number.
    """
    if type(price) is float:
        return _units_of(price)
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        return None
    try:
        return _units_of(float(price))
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=4096)
def _units_of(price: float) -> int | None:
    # LiteLLM's list has -1 for a price that only the provider knows.
    if not isfinite(price) or price < 0:
        return None
    return int((Decimal(repr(price)) * _UNITS_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def _half_to_even(units: int) -> int:
    whole, rest = divmod(units, _UNITS_PER_NANO)
    twice = 2 * rest
    return whole + (twice > _UNITS_PER_NANO or (twice == _UNITS_PER_NANO and whole % 2 == 1))


FEMTO_PER_NANO = 10**6


FEMTO_PER_USD = 10**15
