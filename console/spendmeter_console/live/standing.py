"""How an account stands now: its latest signal, read against the budget in force and the clock. Pure."""

from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import ANY, Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.globs import is_glob
from spendmeter.domain.thresholds import state_at
from spendmeter.domain.window import Window
from spendmeter.values.account import account_name


class Standing(NamedTuple):
    """What an account may still spend in the present window of its budget."""

    account: str
    budget_id: str
    subject: dict[str, str]
    window: Window
    limit_nanousd: NanoUsd
    spent_nanousd: NanoUsd
    state: State
    refuses: bool
    """False where the budget only warns, or is paused."""
    paused: bool
    is_counting: bool
    """What the window held before the budget began is not in it yet: more was spent than it says."""
    runs_out_at: datetime | None
    """When it will reach its limit at the rate of late, if that is before the window ends."""
    signalled_at: datetime | None
    """None where nothing was spent in this window yet."""

    @property
    def remaining_nanousd(self) -> NanoUsd:
        return NanoUsd(self.limit_nanousd - self.spent_nanousd)

    @property
    def share(self) -> float:
        """Of the limit, how much is spent; above 1 where more was."""
        return self.spent_nanousd / self.limit_nanousd


def standing_of(signal: Signal, budget: Budget, window: Window, now: datetime) -> Standing:
    """How the account of a signal stands. `window`: the present one of the budget.

    A signal of a window that has ended says nothing of the present one, where nothing is spent yet.
    """
    has_ended = signal.window_start < window.start
    if not has_ended and signal.window_start != window.start:
        window = Window(signal.window_start, signal.window_end)
    spent = NanoUsd(0) if has_ended else signal.spent_nanousd
    runs_out_at = None if has_ended else signal.forecast_exhausted_at
    return Standing(
        signal.account,
        budget.id,
        signal.subject,
        window,
        limit := budget.limit_at(now),
        spent,
        state_at(spent, limit, budget.warn_at)[0],
        budget.refuses,
        budget.paused,
        signal.opening and not has_ended,
        runs_out_at if runs_out_at and runs_out_at > now else None,
        None if has_ended else signal.emitted_at,
    )


def untouched(budget: Budget, window: Window, now: datetime) -> Standing | None:
    """How a budget's only account stands before anything is spent; None where it has one per value."""
    if any(wanted == ANY and not is_glob(d, wanted) for d, wanted in budget.match.items()):
        return None
    return Standing(
        account_name(budget.id, budget.match.items()),
        budget.id,
        {str(dimension): value for dimension, value in budget.match.items()},
        window,
        budget.limit_at(now),
        NanoUsd(0),
        State.OK,
        budget.refuses,
        budget.paused,
        False,
        None,
        None,
    )


def closest_first(standing: Standing) -> tuple[float, str]:
    """A sort key: whoever has spent the most of their limit, then by name."""
    return -standing.share, standing.account
