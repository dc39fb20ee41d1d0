"""What one event costs each of its accounts."""

from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.charge import cost_for
from spendmeter.domain.matching import BudgetBook


class Charge(NamedTuple):
    """What one event adds to one account in one window."""

    budget_id: str
    account: str
    window_start: datetime
    window_end: datetime | None
    cost_nanousd: NanoUsd


def charges_at_answer(book: BudgetBook, event: UsageEvent, begun_at: datetime, now: datetime) -> list[Charge]:
    """What the event costs each account for certain, at whatever time since `begun_at` it occurred.

    That time is known when LiteLLM logs the event. If a window has begun meanwhile, it is unknown which of
    the two windows will be charged.
    """
    return [
        charge
        for charge in charges_of(book, event, now)
        if charge.window_start <= begun_at and charge.cost_nanousd
    ]


def charges_of(book: BudgetBook, event: UsageEvent, now: datetime) -> list[Charge]:
    """A charge for every account of the event whose window has not ended by now."""
    charges = []
    for account in book.accounts_in(event):
        window = book.window_of(account.budget, event.occurred_at)
        if window is not None and (window.end is None or now < window.end):
            cost = cost_for(account.budget, event)
            charges.append(Charge(account.budget.id, account.name, window.start, window.end, cost))
    return charges
