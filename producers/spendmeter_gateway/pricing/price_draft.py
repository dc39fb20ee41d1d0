"""Prices drafts for which LiteLLM has no price, or whose price the book overrides. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import ROUND_CEILING
from math import inf
from typing import Any, NamedTuple

from spendmeter.contract.money import InvalidAmount, NanoUsd
from spendmeter.contract.usage import CostSource, Doubt, Status, UsageEvent, UsageKind
from spendmeter.prices.book import ModelNames, PriceBook, PriceEntry, Used, cost_of
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_USD


class Priced(NamedTuple):
    """A cost, and the prices from which it was computed."""

    amount: NanoUsd
    prices: Mapping[str, str]


Fallback = Callable[[ModelNames, Used, datetime], Priced | None]
"""A price list to try last. Raises InvalidAmount."""


def priced(draft: UsageDraft, book: PriceBook | None, fallback: Fallback | None) -> UsageDraft:
    """The draft with a cost from the book, or else from the fallback; unchanged if neither has one.

    Only for requests that a model served: a cached answer has its price, and a failure has none.
    """
    fields = draft.fields
    source = fields["cost_source"]
    if source is CostSource.CACHE or fields.get("status", Status.SUCCESS) is not Status.SUCCESS:
        return draft
    try:
        found = _lookup(draft, source, book, fallback)
    except InvalidAmount as error:
        return draft._replace(doubt=f"by the price book, {error}")
    if found is None:
        return draft
    changed = {
        "cost_nanousd": found.amount,
        "cost_source": CostSource.PRICEBOOK,
        "prices": dict(found.prices),
    }
    if source is CostSource.TOKENS:
        # The operator's own price counts whatever LiteLLM reported, so nothing is doubted.
        return draft._replace(fields={**fields, **changed, "cost_doubt": Doubt.NONE}, doubt=None)
    return draft._replace(fields={**fields, **changed})


def _lookup(
    draft: UsageDraft, source: CostSource, book: PriceBook | None, fallback: Fallback | None
) -> Priced | None:
    fields = draft.fields
    model = ModelNames(fields.get("provider", ""), fields.get("model", ""), fields.get("model_group", ""))
    at: datetime = fields["occurred_at"]
    entry = book.find(model, at) if book is not None else None
    is_unpriced = source is CostSource.UNPRICED
    if book is not None and entry is not None and (is_unpriced or entry.override):
        cost = cost_of(entry, _used(draft))
        # A guardrail's cost, which LiteLLM knows without the model's price, stays.
        known = 0 if entry.override else fields["cost_nanousd"]
        return Priced(NanoUsd(cost + known), book.prices_of(entry))
    if fallback is None or not is_unpriced:
        return None
    found = fallback(model, _used(draft), at)
    return found and found._replace(amount=NanoUsd(found.amount + fields["cost_nanousd"]))


def _used(draft: UsageDraft) -> Used:
    fields: Mapping[str, Any] = draft.fields
    counts = {name: fields.get(name, 0) for name in Used._fields if name != "images"}
    return Used(images=draft.images, **counts)


_LITELLM_NAMES = {
    "input_token": "input_cost_per_token",
    "cache_read_token": "input_cost_per_token",
    "cache_write_token": "cache_creation_input_token_cost",
    "output_token": "output_cost_per_token",
    "output_reasoning_token": "output_cost_per_reasoning_token",
    "image": "output_cost_per_image",
    "second": "cost_per_second",
    "request": "input_cost_per_request",
}


def bounding_prices(entry: PriceEntry) -> dict[str, int]:
    """An entry's prices in the form of cost_bound.py: LiteLLM's names, femto-USD, rounded up."""
    prices: dict[str, int] = {}
    for unit, usd in entry.usd_per_unit.items():
        name, femto = _LITELLM_NAMES[unit], int((usd * FEMTO_PER_USD).to_integral_value(ROUND_CEILING))
        prices[name] = max(femto, prices.get(name, 0))
    return prices


# LiteLLM's price list is no evidence: a model that it does not have may still be priced, by the name that
# the upstream answers with. A request that was served, used tokens and came back without a price is.
# Prices can be set while a proxy runs. So evidence counts for this long; then one request of the
# model is admitted, and its result counts as new evidence.
KNOWN_FOR_SECONDS = 600.0
MAX_KNOWN = 10_000

Deployments = Callable[[], Iterable[str]]
"""The ids of every deployment that may serve the request; empty if the router knows none."""


class UnpricedModels:
    """Remembers, per deployment and model as requested, when it last served without a price."""

    def __init__(self) -> None:
        self._seen_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, event: UsageEvent, seconds: float) -> None:
        """Learn from an own event; `seconds` are of a monotonic clock."""
        if event.status is not Status.SUCCESS or event.kind is not UsageKind.USAGE or not event.deployment:
            return
        served = (event.deployment, event.model_group)
        if event.cost_source is not CostSource.UNPRICED:
            if event.cost_source is not CostSource.CACHE:
                self._seen_at.pop(served, None)
        elif event.total_tokens:
            self._seen_at.pop(served, None)
            self._seen_at[served] = seconds
            if len(self._seen_at) > MAX_KNOWN:
                self._seen_at.popitem(last=False)

    def knows(self, model_group: str | None, deployments: Deployments, seconds: float) -> bool:
        """Whether every deployment that may serve the request is known to have no price."""
        if not self._seen_at or not model_group:
            return False
        may_serve = list(deployments())
        return bool(may_serve) and all(
            seconds - self._seen_at.get((deployment, model_group), -inf) < KNOWN_FOR_SECONDS
            for deployment in may_serve
        )

    def forget(self) -> None:
        """Forget all evidence: prices have changed."""
        self._seen_at.clear()
