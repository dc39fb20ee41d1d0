"""Changes of a budget in force: raise, reset, pause, another limit or period. Pure.

None of them changes spend; each returns the whole new record.
"""

import re
from collections.abc import Container, Mapping
from datetime import datetime
from hashlib import blake2s
from typing import Any

from spendmeter.contract.budget import ANY, MAX_RAISES, Budget, Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import window_of
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import format_time

# An id has 200 characters at most, and a digest of 9 may follow.
_MAX_BASE, _MAX_NAME = 120, 60


class InvalidChange(ValueError):
    """The change is not possible; the message says why and what to do instead."""


def with_fields(budget: Budget, **fields: Any) -> Budget:
    """The budget with these fields, checked as a whole. Whoever writes it becomes its author.

    Raises:
        pydantic.ValidationError: such a budget is invalid.
    """
    return Budget.model_validate({**budget.model_dump(), **fields, "updated_by": ""})


def exception_for(
    budget: Budget,
    account: Mapping[Dimension, str],
    limit: NanoUsd,
    in_force: Mapping[str, Budget],
    name: str = "",
) -> Budget:
    """The budget that gives an account of this one another limit: one that does so already, else a new one.

    Args:
        account: a value for each dimension, or some, of which the budget has an account per value.
        in_force: every budget, by id.
        name: of the account, for the new budget's id.

    Raises:
        InvalidChange: the budget has no such account, or only this one.
    """
    for dimension, value in account.items():
        if value == ANY:
            raise InvalidChange(f"{dimension}={ANY} is every account; name one")
        counted = budget.match.get(dimension)
        if counted is None:
            by = ", ".join(d for d, v in budget.match.items() if v == ANY) or "nothing"
            raise InvalidChange(f"{budget.id} has no accounts by {dimension}; it has them by {by}")
        if counted not in (ANY, value):
            raise InvalidChange(
                f"{budget.id} is only of {dimension}={counted}; {value} is in none of its accounts"
            )
    match = {**budget.match, **account}
    if match == budget.match:
        raise InvalidChange(f"{budget.id} is of that account alone; set its own limit")
    for known in in_force.values():
        if known.replaces == budget.id and known.match == match:
            return with_fields(known, limit_nanousd=limit)
    return with_fields(
        budget,
        id=_free_id(budget.id, name or "-".join(account.values()), match, in_force),
        match=match,
        limit_nanousd=limit,
        raises=(),
        replaces=budget.id,
    )


def _free_id(budget_id: str, name: str, match: Mapping[Dimension, str], ids: Container[str]) -> str:
    """`key-day:laptop`; with a digest behind it if another has that, or the name has no letter for an id."""
    plain = re.sub(r"[^A-Za-z0-9._@/-]+", "-", name).strip("-")[:_MAX_NAME]
    begin = budget_id[:_MAX_BASE]
    if plain and (found := f"{begin}:{plain}") not in ids:
        return found
    digest = blake2s(repr(sorted(match.items())).encode(), digest_size=4).hexdigest()
    found = f"{begin}:{plain}{'-' if plain else ''}{digest}"
    if found in ids:
        raise InvalidChange(
            f"there is a budget {found} for it that replaces another; remove it, or set its limit"
        )
    return found


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
