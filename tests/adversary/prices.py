"""What the provider bills for a call: tokens × list prices, by arithmetic of the adversary's own.

It shares nothing with the product: LiteLLM's price map is read as a file, in decimals, and what the
configuration says of its own models is read from the configuration.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).with_name("litellm.yaml")
NANO = Decimal(10) ** 9
_LISTED_AS = {"gemini-2.5-flash": "gemini/gemini-2.5-flash", "deepseek-chat": "deepseek/deepseek-chat"}
_BY_UNIT = {"rerank-v3.5": "input_cost_per_query", "tts-1": "input_cost_per_character"}

# An estimate from the texts themselves may be so far off: other tokenizers, a protocol's own tokens.
ESTIMATE_LEAST = Decimal("0.5")
ESTIMATE_MOST = Decimal(2)
ESTIMATE_EXTRA_INPUT_TOKENS = 60
ESTIMATE_EXTRA_OUTPUT_TOKENS = 20

BROKEN_OFF = ("reset",)
"""The connection broke before an answer: whether the provider bills that, no client can know."""
MOST_ATTEMPTS = 3
DEAREST_INPUT_NANOUSD = 15_000
"""Of a token, or of a character to be spoken."""
CHARACTERS_OF_A_WORD = 6
"""A token's, or a character's, in the configuration."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call costs its owner in nano-USD: between two amounts, which are one where it is known."""

    least: int
    most: int

    @property
    def is_exact(self) -> bool:
        return self.least == self.most

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(self.least + other.least, self.most + other.most)


NOTHING = Bill(0, 0)


def bill(call: Mapping[str, Any]) -> Bill:
    """Of one call of the upstream's log."""
    is_broken_off = call["fault"] in BROKEN_OFF
    if call["outcome"] == "failed" and not is_broken_off:
        # Given up before the error came, it may be taken for one that the provider went on with.
        most = _price(call, int(ESTIMATE_MOST * (call["input_word_count"] + ESTIMATE_EXTRA_INPUT_TOKENS)), 0)
        return Bill(0, most if call.get("is_unread") else 0)
    whole = _price(
        call,
        call["input_tokens"],
        call["output_tokens"],
        cached=call["cached_tokens"],
        written=call["cache_write_tokens"],
    )
    is_read = not call.get("is_unread") and not is_broken_off
    if call["outcome"] == "served" and is_read and (call["usage_given"] or call["model"] in _BY_UNIT):
        return Bill(whole, whole)
    words, output = call["input_word_count"], call["output_tokens"]
    # A stream that was left may have given its input by then.
    least = _price(call, min(words, call["input_tokens"]), 0) * ESTIMATE_LEAST
    most = _price(
        call,
        int(ESTIMATE_MOST * (max(words, call["input_tokens"]) + ESTIMATE_EXTRA_INPUT_TOKENS)),
        int(ESTIMATE_MOST * (output + ESTIMATE_EXTRA_OUTPUT_TOKENS)),
    )
    if call["fault"] == "late" or call["model"] in _BY_UNIT or is_broken_off:
        # An error status says that nothing is billed; of a broken connection nobody knows.
        least = Decimal(0)
    # A client of the provider's tries a broken connection again before the upstream has read a request.
    times = MOST_ATTEMPTS if is_broken_off else 1
    return Bill(int(least), max(whole, most) * times)


def unsent_most(words: int, *, is_speech: bool) -> int:
    """What a request of so many words is estimated at where its client left before it was sent."""
    units = words * (CHARACTERS_OF_A_WORD if is_speech else 1) + ESTIMATE_EXTRA_INPUT_TOKENS
    return int(ESTIMATE_MOST * units) * DEAREST_INPUT_NANOUSD


def _price(
    call: Mapping[str, Any], input_tokens: int, output_tokens: int, *, cached: int = 0, written: int = 0
) -> int:
    listed = prices_of(call["model"])

    def per(name: str, other: str = "") -> Decimal:
        return Decimal(listed.get(name, listed.get(other, 0)))

    unit = _BY_UNIT.get(call["model"])
    if unit is not None:
        return int(per(unit) * call["units"] * NANO)
    output_per = per("output_cost_per_image_token", "output_cost_per_token")
    total = (
        (input_tokens - cached - written) * per("input_cost_per_token")
        + cached * per("cache_read_input_token_cost", "input_cost_per_token")
        + written * per("cache_creation_input_token_cost", "input_cost_per_token")
        + output_tokens * output_per
    )
    return int((total * NANO).to_integral_value())


def prices_of(model: str) -> Mapping[str, Any]:
    """LiteLLM's names of prices to decimals; empty where nobody has said any."""
    return _house_prices().get(model) or _price_map().get(_LISTED_AS.get(model, model), {})


@cache
def _price_map() -> Mapping[str, Mapping[str, Any]]:
    spec = find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    found: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(), parse_float=Decimal)
    return found


@cache
def _house_prices() -> Mapping[str, Mapping[str, Any]]:
    models = yaml.safe_load(CONFIG.read_text())["model_list"]
    params = [one["litellm_params"] for one in models]
    return {
        one["model"].partition("/")[2]: {n: Decimal(repr(v)) for n, v in one.items() if "_cost_per_" in n}
        for one in params
        if any("_cost_per_" in name for name in one)
    }
