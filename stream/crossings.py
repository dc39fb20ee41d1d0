"""Crossings: the alerts that a signal makes due, each once per account and window. Pure."""

from collections.abc import Iterable

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
    who = ", ".join(f"{d} {v}" for d, v in signal.subject.items()) or "everything"
    figures = f"{format_usd(signal.spent_nanousd)} of {format_usd(signal.limit_nanousd)} USD"
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
