"""What a change would do: who would be refused from then on, who would be let in again. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import ANY, Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import State
from spendmeter.domain.globs import is_glob
from spendmeter.domain.window import Window, window_of
from spendmeter.values.account import account_name
from spendmeter.values.dimensions import Dimension
from spendmeter_console.live.standing import Standing


class AccountSpend(NamedTuple):
    """What an account has spent in the window that counts after the change."""

    account: str
    spent_nanousd: NanoUsd


class ChangeEffect(NamedTuple):
    """What a change does to the accounts of a budget."""

    accounts: int
    """Those known now: the next request may begin another one."""
    refused: list[AccountSpend]
    """Refused from now on, and let in until now; who has spent most comes first."""
    admitted: list[AccountSpend]
    """Let in again."""
    still_refused: int
    window: Window | None
    """The one that counts after the change; None before the budget's beginning, and once it is removed."""
    limit_nanousd: NanoUsd | None


def effect(
    standings: Iterable[Standing], before: Budget, after: Budget | None, now: datetime
) -> ChangeEffect:
    """What the change does to these accounts of the budget, which are all that are known."""
    window = window_of(after, now) if after is not None else None
    is_anew = window is not None and window != window_of(before, now)
    limit = after.limit_at(now) if after is not None else None
    refused, admitted, still, accounts = [], [], 0, 0
    for one in standings:
        accounts += 1
        was_refused = one.refuses and one.state is State.EXCEEDED
        spent = NanoUsd(0) if is_anew else one.spent_nanousd
        is_refused = after is not None and limit is not None and after.refuses and spent >= limit
        still += was_refused and is_refused
        if was_refused and not is_refused:
            admitted.append(AccountSpend(one.account, spent))
        elif is_refused and not was_refused:
            refused.append(AccountSpend(one.account, spent))
    return ChangeEffect(accounts, _largest_first(refused), _largest_first(admitted), still, window, limit)


def effect_of_new(budget: Budget, spent: Sequence[AccountSpend], now: datetime) -> ChangeEffect:
    """What a new budget does to the accounts that history has in its window."""
    limit = budget.limit_at(now)
    refused = [one for one in spent if budget.refuses and one.spent_nanousd >= limit]
    return ChangeEffect(len(spent), _largest_first(refused), [], 0, window_of(budget, now), limit)


def counted_by(budget: Budget) -> tuple[list[Dimension], dict[Dimension, str]] | None:
    """How history can add up a budget's accounts: by which dimensions, and with which values.

    None where it cannot: a pattern is no value.
    """
    if any(is_glob(d, value) for d, value in budget.match.items()):
        return None
    by = [d for d, value in budget.match.items() if value == ANY]
    return by, {d: value for d, value in budget.match.items() if value != ANY}


def account_of(budget: Budget, by: Sequence[Dimension], values: Sequence[str]) -> str | None:
    """The name of the account with these values; None where one is missing: such requests are in none."""
    if not all(values):
        return None
    return account_name(budget.id, (budget.match | dict(zip(by, values, strict=True))).items())


def _largest_first(accounts: list[AccountSpend]) -> list[AccountSpend]:
    return sorted(accounts, key=lambda one: (-one.spent_nanousd, one.account))
