"""Changes of a budget in force: raise, reset, pause, another limit or period. Pure.

None of them changes spend; each returns the whole new record.
"""

from datetime import datetime
from typing import Any

from spendmeter.contract.budget import MAX_RAISES, Budget, Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import window_of
from spendmeter.values.times import format_time


class InvalidChange(ValueError):
    """The change is not possible; the message says why and what to do instead."""


def with_fields(budget: Budget, **fields: Any) -> Budget:
    """The budget with these fields, checked as a whole. Whoever writes it becomes its author.

    Raises:
        pydantic.ValidationError: such a budget is invalid.
    """
    return Budget.model_validate({**budget.model_dump(), **fields, "updated_by": ""})


def without_ended_raises(budget: Budget, now: datetime) -> Budget:
    """The budget without the raises that no longer count."""
    left = tuple(r for r in budget.raises if now < r.until)
    return budget if left == budget.raises else budget.model_copy(update={"raises": left})


def raised(budget: Budget, amount: NanoUsd, until: datetime, now: datetime) -> Budget:
    """The budget with one more raise until then.

    Raises:
        InvalidChange: it would end before it begins, or there are too many.
        pydantic.ValidationError: the amount is not above 0, or more than can be held.
    """
    if until <= now:
        raise InvalidChange(f"a raise until {format_time(until)} has ended already; name a time to come")
    raises = without_ended_raises(budget, now).raises
    if len(raises) >= MAX_RAISES:
        raise InvalidChange(
            f"{budget.id} has {MAX_RAISES} raises already; set its limit, or wait until one has ended"
        )
    return with_fields(budget, raises=(*raises, Raise(amount_nanousd=amount, until=until)))


def reset(budget: Budget, at: datetime, now: datetime) -> Budget:
    """The budget with a new window that began at that moment, now or earlier in the present period.

    Raises:
        InvalidChange: the moment is in the future, or before the present period.
    """
    if at > now:
        raise InvalidChange(f"{format_time(at)} is to come; a reset is now or earlier")
    period = window_of(budget.model_copy(update={"reset_at": None}), now)
    if period is None:
        raise InvalidChange(f"{budget.id} begins at {budget.starts_at}; there is nothing to reset yet")
    if at < period.start:
        raise InvalidChange(
            f"the present {budget.period} of {budget.id} began at {format_time(period.start)};"
            f" a reset at {format_time(at)} would change nothing"
        )
    return with_fields(budget, reset_at=at)
