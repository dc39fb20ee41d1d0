"""What an event counts for against a budget: the one rule of the stream, the gateway and the reconciler."""

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind

# To look into an enum costs more than all else that is asked here for every event.
_UNPRICED = CostSource.UNPRICED


def cost_for(budget: Budget, event: UsageEvent) -> NanoUsd:
    """The event's cost, and the budget's flat amount for each unpriced request that it tells of."""
    if event.cost_source is not _UNPRICED:
        return event.cost_nanousd
    return NanoUsd(event.cost_nanousd + flats_of(event) * budget.unpriced_flat_nanousd())


def costs_nothing(event: UsageEvent) -> bool:
    """Whether the event adds nothing to any budget, whatever that counts for an unpriced request.

    It then opens no account, is in no total and makes no signal; history has it.
    """
    return event.cost_nanousd == 0 and (event.cost_source is not _UNPRICED or flats_of(event) == 0)


def flats_of(event: UsageEvent) -> int:
    """How many flat amounts the event counts for: 1 for a served request without a price, else 0.

    -1 for a correction or void whose `cost_source` is `unpriced`: it tells what that request really
    cost, so the flat amount that stood for it goes. Any later one of the same request says
    another source.
    """
    if event.cost_source is not _UNPRICED or event.status is not Status.SUCCESS:
        return 0
    return 1 if event.kind is UsageKind.USAGE else -1
