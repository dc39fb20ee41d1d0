"""The price book: prices of models that no price list knows, each from a certain time on. Pure.

An entry names models by globs and has prices by unit. Among the entries that match a request, those with the
first globs in the book count, and of these the one with the latest start before the request finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal, Inexact
from typing import NamedTuple

from spendmeter.contract.budget import ANY
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.domain.globs import fits
from spendmeter.values.models import names_of_model
from spendmeter.values.times import format_time

MAX_REMEMBERED_MODELS = 10_000

# Precise enough for any counts at any prices in a book; otherwise it would raise an error.
_EXACT = Context(prec=120, traps=[Inexact])
_MS_PER_SECOND = 1000


class Used(NamedTuple):
    """The usage of one request. Token counts are inclusive, as in a usage event."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0
    duration_ms: int = 0


class ModelNames(NamedTuple):
    """The names by which a request's model can be found."""

    provider: str
    model: str
    """The proxy's name, perhaps with the provider: `hosted_vllm/llama-3.3-70b`."""
    model_group: str
    """As requested."""

    def names(self) -> tuple[str, ...]:
        """The model with and without its provider, its called name, and its requested name."""
        names = (self.model, *names_of_model(self.model, self.provider), self.model_group)
        return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """The prices of some models over some time."""

    provider: str
    """A glob; `*` is any."""
    model: str
    valid_from: datetime
    valid_to: datetime | None
    """Exclusive; None is open."""
    usd_per_unit: dict[str, Decimal]
    """By the names in a usage event's `prices`. A missing one costs as much as what it is a part of, or
    nothing."""
    override: bool = False
    """Whether this counts even if LiteLLM knows a price."""

    def is_valid(self, time: datetime) -> bool:
        return self.valid_from <= time and (self.valid_to is None or time < self.valid_to)

    def fits(self, model: ModelNames) -> bool:
        return _fits(self.provider, model.provider) and any(_fits(self.model, n) for n in model.names())


@dataclass
class PriceBook:
    """Entries in the order in which they are tried."""

    version: str
    entries: Sequence[PriceEntry]
    _fitting: dict[ModelNames, tuple[PriceEntry, ...]] = field(default_factory=dict, repr=False)

    def find(self, model: ModelNames, time: datetime) -> PriceEntry | None:
        """The entry for a request that finished then; None if the book has none."""
        fitting = self._fitting.get(model)
        if fitting is None:
            if len(self._fitting) >= MAX_REMEMBERED_MODELS:
                self._fitting.clear()
            fitting = self._fitting[model] = tuple(entry for entry in self.entries if entry.fits(model))
        valid = [entry for entry in fitting if entry.is_valid(time)]
        if not valid:
            return None
        globs = (valid[0].provider, valid[0].model)
        return max((e for e in valid if (e.provider, e.model) == globs), key=lambda e: e.valid_from)

    def prices_of(self, entry: PriceEntry) -> dict[str, str]:
        """The prices for a usage event: exact decimal strings, and the version of the book and entry."""
        prices = {unit: _plain(price) for unit, price in sorted(entry.usd_per_unit.items())}
        return {**prices, "version": f"pricebook {self.version} from {format_time(entry.valid_from)}"}


def cost_of(entry: PriceEntry, used: Used) -> NanoUsd:
    """The cost of the usage at the entry's prices, rounded once, half to even at the nano-dollar.

    Without a price of its own, cached input costs as much as input, and reasoning as much as output.

    Raises:
        InvalidAmount: above the largest amount that we can store.
    """
    price = entry.usd_per_unit.get
    nothing = Decimal(0)
    plain_input = max(0, used.input_tokens - used.cache_read_tokens - used.cache_write_tokens)
    plain_output = max(0, used.output_tokens - used.reasoning_tokens)
    per_input, per_output = price("input_token", nothing), price("output_token", nothing)
    counted = (
        (plain_input, per_input),
        (used.cache_read_tokens, price("cache_read_token", per_input)),
        (used.cache_write_tokens, price("cache_write_token", per_input)),
        (plain_output, per_output),
        (used.reasoning_tokens, price("output_reasoning_token", per_output)),
        (used.images, price("image", nothing)),
        (1, price("request", nothing)),
    )
    per_ms = _EXACT.divide(price("second", nothing), Decimal(_MS_PER_SECOND))
    total = _EXACT.multiply(Decimal(used.duration_ms), per_ms)
    for count, usd in counted:
        total = _EXACT.add(total, _EXACT.multiply(Decimal(count), usd))
    return from_usd(total)


def _fits(glob: str, value: str) -> bool:
    return fits(glob, value) if ANY in glob else glob == value


def _plain(price: Decimal) -> str:
    """Without exponent and trailing zeros."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
