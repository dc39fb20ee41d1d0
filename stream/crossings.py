"""Crossings: the alerts that a signal makes due, each once per account and window. Pure."""

from collections.abc import Iterable
from datetime import datetime

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.signal import Signal, State
from stream.changelog import AccountState


def share(limit: NanoUsd, fraction: float) -> int:
    """A fraction of the limit, rounded up: a threshold fires when it has been reached, not before."""
    return -int(-limit * round(fraction * 1_000_000) // 1_000_000)


def crossings(state: AccountState, budget: Budget, signal: Signal) -> Iterable[Alert]:
    """The crossings that this signal makes and that were not told before; notes them as told."""
    who = _who(signal)
    figures = _figures(signal)
    for fraction in budget.warn_at:
        if signal.spent_nanousd >= share(signal.limit_nanousd, fraction):
            message = f"{budget.id}: {who} has spent {fraction:.0%} of its budget ({figures})"
            yield from _once(state, signal, AlertKind.THRESHOLD, f"{fraction}", message)
    exceeded = signal.state is State.EXCEEDED
    if exceeded and not state.exceeded:
        refused = "; requests are refused" if budget.refuses else ""
        message = f"{budget.id}: {who} has spent its budget ({figures}){refused}"
        yield from _once(state, signal, AlertKind.EXCEEDED, str(signal.revision), message)
    if state.exceeded and not exceeded:
        message = f"{budget.id}: {who} is below its budget again ({figures})"
        yield from _once(state, signal, AlertKind.RECOVERED, str(signal.revision), message)
    state.exceeded = exceeded


def recovery(exceeded_in: datetime, signal: Signal) -> Iterable[Alert]:
    """That the window, named by its start, in which an account was exceeded is over.

    `signal` is of its present window; nothing is told where that is exceeded too.
    """
    if signal.state is State.EXCEEDED:
        return
    kind = AlertKind.RECOVERED
    yield Alert(
        alert_id=alert_id(signal.account, exceeded_in, kind, "window"),
        kind=kind,
        signal=signal,
        message=f"{signal.budget_id}: {_who(signal)} has a new window ({_figures(signal)})",
        emitted_at=signal.emitted_at,
    )


def _who(signal: Signal) -> str:
    return ", ".join(f"{d} {v}" for d, v in signal.subject.items()) or "everything"


def _figures(signal: Signal) -> str:
    return f"{format_usd(signal.spent_nanousd)} of {format_usd(signal.limit_nanousd)} USD"


def _once(
    state: AccountState, signal: Signal, kind: AlertKind, qualifier: str, message: str
) -> Iterable[Alert]:
    name = f"{kind}/{qualifier}"
    if name in state.told:
        return
    state.told |= {name}
    yield Alert(
        alert_id=alert_id(signal.account, signal.window_start, kind, qualifier),
        kind=kind,
        signal=signal,
        message=message,
        emitted_at=signal.emitted_at,
    )
