"""Which models are known to have no price: what this gateway has seen, and nothing else. No I/O, no clock.

LiteLLM's price list is no evidence: a model that it does not have may still be priced, by the name that
the upstream answers with. A request that was served, used tokens and came back without a price is.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf

from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind

# Prices can be set while a proxy runs. So what was seen counts for this long; then a request of the
# model is let through, and what it shows counts again.
KNOWN_FOR_SECONDS = 600.0
MAX_KNOWN = 10_000

Deployments = Callable[[], Iterable[str]]
"""The ids of every deployment that may serve the request; none where the router knows none."""


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
        """Start anew: prices have changed."""
        self._seen_at.clear()
