"""Thresholds: when a share of a limit is reached, and what an account's state then is. Pure."""

from collections.abc import Iterable
from functools import lru_cache

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import State

# Limits of budgets and of their raises, with few fractions each.
_MAX_REMEMBERED = 10_000
# An enum's attribute costs as much as a comparison of money.
_OK, _WARNING, _EXCEEDED = State.OK, State.WARNING, State.EXCEEDED


@lru_cache(_MAX_REMEMBERED)
def share_of(limit: NanoUsd, fraction: float) -> int:
    """A fraction of the limit, rounded up: a threshold fires when it is reached, not before."""
    return -int(-limit * round(fraction * 1_000_000) // 1_000_000)


def state_at(spent: NanoUsd, limit: NanoUsd, warn_at: Iterable[float]) -> tuple[State, float | None]:
    """The state of an account, and the highest threshold that it has reached: 1 at the limit.

    `warn_at`: a budget's fractions, which rise.
    """
    if spent >= limit:
        return _EXCEEDED, 1.0
    state, threshold = _OK, None
    for fraction in warn_at:
        if spent >= share_of(limit, fraction):
            state, threshold = _WARNING, fraction
    return state, threshold
