"""The cost bound: the most that a request can cost, at the prices of the deployments that may serve it. Pure.

Prices are kept in femto-USD (10**-15 USD) per unit: a tenth of a nano-dollar per token is a real price.
Every step rounds up.
"""

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

from spendmeter_gateway.model import RequestSize
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO, FEMTO_PER_USD, TIERS_THOUSANDS

# LiteLLM's own assumption is below most models' true maximum; ours counts only if none is known.
IMAGE_TOKENS = 8_000
"""An upper bound of the tokens of one picture at every provider known, save the next."""
IMAGE_TOKENS_OF_GPT_4O_MINI = 50_000
_PIXELS_OF_A_PICTURE = 4096 * 4096

_TIERS = tuple((thousands * 1000, f"_above_{thousands}k_tokens") for thousands in TIERS_THOUSANDS)
_INPUT = ("input_cost_per_token", "cache_creation_input_token_cost")
_INPUT_FOR_AN_HOUR = ("cache_creation_input_token_cost_above_1hr",)
_INPUT_OTHER = ("input_cost_per_image_token", "input_cost_per_audio_token", "input_cost_per_video_token")
_OUTPUT = (
    "output_cost_per_token",
    "output_cost_per_reasoning_token",
    "output_cost_per_audio_token",
    "output_cost_per_image_token",
)
# A request does not say how long it will run.
_BY_TIME = ("input_cost_per_second", "output_cost_per_second", "cost_per_second")
_BY_TIME_OF_MEDIA = ("input_cost_per_audio_per_second", "input_cost_per_video_per_second")
_OTHER = (
    "input_cost_per_query", "input_cost_per_pixel", "output_cost_per_pixel", "output_cost_per_character",
    "input_cost_per_image", "input_cost_per_request", "input_cost_per_character", "output_cost_per_image",
)  # fmt: skip


class Model(NamedTuple):
    """One deployment that may serve a request."""

    prices: Mapping[str, int]
    """LiteLLM's name of a price: femto-USD."""
    max_input_tokens: int | None
    max_output_tokens: int | None
    image_tokens: int = IMAGE_TOKENS
    tokens_per_counted: Decimal = Decimal(2)
    """The most tokens that this model makes of one token of the counter."""
    factor: Decimal = Decimal(1)
    """The highest factor from the operator's margin and the provider's surcharges."""
    surcharge_femtousd: int = 0
    """Added to each request."""


class Bound(NamedTuple):
    """An upper bound of one request's cost, as a line over its output tokens: least ≤ enough ≤ most."""

    base_femtousd: int
    """The cost before the first output token."""
    token_femtousd: int
    """One output token of each requested answer."""
    most_tokens: int
    """Output tokens of one answer, at the most."""
    enough_tokens: int
    """With room for this many the request goes ahead at once: the client's maximum, else a stated default."""
    least_tokens: int
    """Below this, an answer is useless or the provider refuses it."""
    is_enforced: bool
    """Whether client or provider ends an answer at `most_tokens`; else the request must be given that
    maximum.
    """

    def nanousd(self, output_tokens: int) -> int:
        """The cost with that many output tokens, rounded up to the nano-dollar."""
        return -(-(self.base_femtousd + output_tokens * self.token_femtousd) // FEMTO_PER_NANO)

    def tokens_within(self, room_nanousd: int) -> int:
        """The output tokens that this money pays for, up to `most_tokens`; -1 if it does not pay for the
        input.
        """
        left = room_nanousd * FEMTO_PER_NANO - self.base_femtousd
        if left < 0:
            return -1
        return (
            self.most_tokens
            if not self.token_femtousd
            else min(self.most_tokens, left // self.token_femtousd)
        )


def prices_in(*sources: Mapping[str, Any]) -> dict[str, int]:
    """The prices that bound a cost; a later source overrides an earlier one."""
    prices: dict[str, int] = {}
    for source in sources:
        for name in _PRICES & source.keys():
            femto = _femto(source[name])
            if femto is not None:
                prices[name] = femto
        for tier in source.get("tiered_pricing") or ():
            for name in _PRICES & tier.keys():
                prices[name] = max(prices.get(name, 0), _femto(tier[name]) or 0)
    return prices


def bound_of(
    size: RequestSize,
    models: Iterable[Model],
    *,
    default_output_tokens: int,
    min_output_tokens: int,
    counted_tokens: int | None = None,
) -> Bound | None:
    """The bound over every model that may serve; None if one has no price or no bound.

    `counted_tokens` are the tokens of the request's texts by a real tokenizer; without them, a text
    has at most as many tokens as bytes.
    """
    bounds = []
    for model in models:
        one = _bound(size, model, default_output_tokens, min_output_tokens, counted_tokens)
        if one is None:
            return None
        bounds.append(one)
    if not bounds:
        return None
    return Bound(
        max(one.base_femtousd for one in bounds),
        max(one.token_femtousd for one in bounds),
        max(one.most_tokens for one in bounds),
        max(one.enough_tokens for one in bounds),
        max(one.least_tokens for one in bounds),
        all(one.is_enforced for one in bounds),
    )


def _bound(
    size: RequestSize,
    model: Model,
    default_output_tokens: int,
    min_output_tokens: int,
    counted_tokens: int | None,
) -> Bound | None:
    if size.made_images or size.searches or size.is_speech:
        return _bound_of_media(size, model)
    input_tokens = _input_tokens(size, model, counted_tokens)
    per_input = _highest(model, _input_names(size), input_tokens or 0, size)
    per_output = _highest(model, _OUTPUT, input_tokens or 0, size)
    has_price = per_input is not None or per_output is not None or "input_cost_per_request" in model.prices
    if size.has_paid_tools or input_tokens is None or not has_price:
        return None
    by_time = _BY_TIME + (_BY_TIME_OF_MEDIA if size.is_open else ())
    if any(model.prices.get(name) for name in by_time):
        return None
    if model.prices.get("output_cost_per_image") and "output_cost_per_image_token" not in model.prices:
        return None
    base = input_tokens * (per_input or 0) + model.surcharge_femtousd
    base += size.images * model.prices.get("input_cost_per_image", 0)
    base += model.prices.get("input_cost_per_request", 0)
    base += size.text_bytes * model.prices.get("input_cost_per_character", 0)
    known = [limit for limit in (size.max_output_tokens, model.max_output_tokens) if limit is not None]
    most = min(known, default=default_output_tokens) if size.has_output else 0
    least = min(most, max(min_output_tokens, size.least_output_tokens))
    enough = most if size.max_output_tokens is not None else min(most, max(default_output_tokens, least))
    return Bound(
        _times(base, model.factor),
        _times((per_output or 0) * size.answers, model.factor),
        most,
        enough,
        least,
        bool(known) or not size.has_output,
    )


def _bound_of_media(size: RequestSize, model: Model) -> Bound | None:
    """Pictures made, documents ranked, texts read aloud, as far as the request says how many."""
    prices = model.prices
    if size.has_paid_tools or any(prices.get(name) for name in (*_BY_TIME, *_BY_TIME_OF_MEDIA)):
        return None
    if any(prices.get(name) for name in _OUTPUT):
        # Nothing in the request bounds the tokens of pictures and audio.
        return None
    if size.made_images:
        by_pixel = max(prices.get("input_cost_per_pixel", 0), prices.get("output_cost_per_pixel", 0))
        by_image = max(prices.get("input_cost_per_image", 0), prices.get("output_cost_per_image", 0))
        if not by_image and (not by_pixel or size.made_pixels is None):
            return None
        base = size.made_images * (by_image + by_pixel * (size.made_pixels or _PIXELS_OF_A_PICTURE))
    elif size.searches:
        base = size.searches * prices.get("input_cost_per_query", 0)
        base += size.ranked_tokens * prices.get("input_cost_per_token", 0)
    else:
        by_character = prices.get("input_cost_per_character", 0) + prices.get("output_cost_per_character", 0)
        base = size.text_bytes * by_character
    if not base and not _knows_a_price(prices):
        return None
    base += (size.text_bytes + size.frame_tokens) * prices.get("input_cost_per_token", 0)
    base += prices.get("input_cost_per_request", 0) + model.surcharge_femtousd
    return Bound(_times(base, model.factor), 0, 0, 0, 0, True)


def _knows_a_price(prices: Mapping[str, int]) -> bool:
    return any(
        name in prices
        for name in ("input_cost_per_query", "input_cost_per_token", "input_cost_per_character")
    )


def _input_tokens(size: RequestSize, model: Model, counted_tokens: int | None) -> int | None:
    if size.is_open:
        # Audio, files, a conversation that the provider keeps: at most what fits into the model.
        return model.max_input_tokens
    text = size.text_bytes
    if counted_tokens is not None:
        text = min(text, _times(counted_tokens, model.tokens_per_counted))
    tokens = text + size.frame_tokens + size.images * model.image_tokens
    return tokens if model.max_input_tokens is None else min(tokens, model.max_input_tokens)


def _input_names(size: RequestSize) -> tuple[str, ...]:
    names: tuple[str, ...] = _INPUT
    if size.caches_for_an_hour:
        names += _INPUT_FOR_AN_HOUR
    if size.images or size.is_open:
        names += _INPUT_OTHER
    return names


def _highest(model: Model, names: Iterable[str], input_tokens: int, size: RequestSize) -> int | None:
    """The highest of these prices for a request of that size; None if there is none."""
    suffixes = ["", *(suffix for above, suffix in _TIERS if input_tokens > above)]
    kinds = ("", "_priority", "_ultrafast") if size.is_hurried else ("",)
    known = [
        price
        for name in names
        for suffix in suffixes
        for kind in kinds
        if (price := model.prices.get(name + suffix + kind)) is not None
    ]
    return max(known, default=None)


def _times(amount: int, factor: Decimal) -> int:
    return amount if factor == 1 else int((amount * factor).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4096)
def _femto_of(price: float) -> int:
    return int((Decimal(repr(price)) * FEMTO_PER_USD).to_integral_value(ROUND_CEILING))


def _femto(price: object) -> int | None:
    if isinstance(price, bool) or not isinstance(price, int | float) or not isfinite(price) or price < 0:
        return None
    return _femto_of(price)


def femtousd(price_usd: float) -> int:
    """A price in USD as femto-USD, rounded up; 0 for anything that is not a price."""
    return _femto(price_usd) or 0


_BY_TOKEN = (*_INPUT, *_INPUT_FOR_AN_HOUR, *_INPUT_OTHER, *_OUTPUT)
_PRICES = frozenset(
    [
        name + suffix + kind
        for name in _BY_TOKEN
        for suffix in ("", *(s for _, s in _TIERS))
        for kind in ("", "_priority", "_ultrafast")
    ]
    + [*_BY_TIME, *_BY_TIME_OF_MEDIA, *_OTHER]
)
