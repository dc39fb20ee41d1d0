"""What an event costs a budget: the one rule of the stream, the gateway and the reconciler."""

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind

# An enum's attributes would cost more than all other checks here, for every event.
_UNPRICED = CostSource.UNPRICED


def cost_for(budget: Budget, event: UsageEvent) -> NanoUsd:
    """The event's cost, plus the budget's flat amount for an unpriced request."""
    if event.cost_source is not _UNPRICED:
        return event.cost_nanousd
    return NanoUsd(event.cost_nanousd + flats_of(event) * budget.unpriced_flat_nanousd())


def costs_nothing(event: UsageEvent) -> bool:
    """Whether the event adds nothing to any budget, whatever its flat amount.

    Then it opens no account, is in no total and makes no signal; history has it.
    """
    return event.cost_nanousd == 0 and (event.cost_source is not _UNPRICED or flats_of(event) == 0)


def flats_of(event: UsageEvent) -> int:
    """The number of flat amounts of the event: 1 for a served request without a price, else 0.

    -1 for a correction or void whose `cost_source` is `unpriced`: it sets the real cost of that request,
    so the flat amount no longer counts. Any later correction of the same request has
    another source.
    """
    if event.cost_source is not _UNPRICED or event.status is not Status.SUCCESS:
        return 0
    return 1 if event.kind is UsageKind.USAGE else -1
