"""Alerts that a signal triggers, each once per account and window. Pure."""

from collections.abc import Iterable
from datetime import datetime

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import format_usd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.thresholds import share_of
from spendmeter.domain.window import Window
from spendmeter_stream.judge.forecast import worth_an_alert
from spendmeter_stream.state import AccountState


def crossings(state: AccountState, budget: Budget, signal: Signal) -> Iterable[Alert]:
    """The alerts for thresholds that this signal crosses first; notes them as sent."""
    for fraction in budget.warn_at:
        is_reached = signal.spent_nanousd >= share_of(signal.limit_nanousd, fraction)
        if is_reached and f"{AlertKind.THRESHOLD}/{fraction}" not in state.sent_alerts:
            message = (
                f"{budget.id}: {_who(signal)} has spent {fraction:.0%} of its budget ({_figures(signal)})"
            )
            yield from _once(state, signal, AlertKind.THRESHOLD, f"{fraction}", message)
    yield from _forecast(state, signal)
    exceeded = signal.state is State.EXCEEDED
    # A late event does not exceed a window that is over a second time: no `recovered` would follow.
    over = signal.window_end is not None and signal.window_end <= signal.emitted_at
    if exceeded and not state.exceeded and not (over and state.crossed):
        refused = "; requests are refused" if budget.refuses else ""
        message = f"{budget.id}: {_who(signal)} has spent its budget ({_figures(signal)}){refused}"
        state.exceeded, state.crossed = True, state.crossed + 1
        yield _alert(signal, AlertKind.EXCEEDED, str(state.crossed), message)
    if state.exceeded and not exceeded:
        message = f"{budget.id}: {_who(signal)} is below its budget again ({_figures(signal)})"
        state.exceeded = False
        yield _alert(signal, AlertKind.RECOVERED, str(state.crossed), message)


def capped(state: AccountState, budget: Budget, signal: Signal) -> Iterable[Alert]:
    """Say once per window that further values have no account of their own; `signal` is of their sum."""
    message = (
        f"{budget.id}: it has as many accounts as a worker keeps (SPENDMETER_MAX_ACCOUNTS_PER_BUDGET); the"
        f" spend of further values is added up in one sum, {format_usd(signal.spent_nanousd)} USD so far, and"
        " signals do not hold it to the limit"
    )
    yield from _once(state, signal, AlertKind.ACCOUNTS_CAPPED, "window", message)


def _forecast(state: AccountState, signal: Signal) -> Iterable[Alert]:
    """Once for each limit of the window: a forecast may come and go; a new limit allows a new alert."""
    at, limit = signal.forecast_exhausted_at, signal.limit_nanousd
    if at is None:
        return
    window = Window(signal.window_start, signal.window_end)
    if not worth_an_alert(state.burn, signal.spent_nanousd, limit, window, signal.emitted_at):
        return
    message = (
        f"{signal.budget_id}: {_who(signal)} will have spent its budget by {at:%Y-%m-%d %H:%M} UTC"
        f" if it goes on like this ({_figures(signal)})"
    )
    yield from _once(state, signal, AlertKind.FORECAST, str(limit), message)


def recovery(exceeded_in: datetime, signal: Signal) -> Iterable[Alert]:
    """Say that the window in which an account was exceeded is over; `exceeded_in` is its start.

    `signal` is of the present window; there is no alert if that one is exceeded, too.
    """
    if signal.state is State.EXCEEDED:
        return
    message = f"{signal.budget_id}: {_who(signal)} has a new window ({_figures(signal)})"
    yield _alert(signal, AlertKind.RECOVERED, "window", message, exceeded_in)


def _who(signal: Signal) -> str:
    return ", ".join(f"{d} {v}" for d, v in signal.subject.items()) or "everything"


def _figures(signal: Signal) -> str:
    return f"{format_usd(signal.spent_nanousd)} of {format_usd(signal.limit_nanousd)} USD"


def _once(
    state: AccountState, signal: Signal, kind: AlertKind, qualifier: str, message: str
) -> Iterable[Alert]:
    name = f"{kind}/{qualifier}"
    if name in state.sent_alerts:
        return
    state.sent_alerts |= {name}
    yield _alert(signal, kind, qualifier, message)


def _alert(
    signal: Signal, kind: AlertKind, qualifier: str, message: str, window_start: datetime | None = None
) -> Alert:
    """An alert for the signal's own window, unless another is named."""
    return Alert(
        alert_id=alert_id(signal.account, window_start or signal.window_start, kind, qualifier),
        kind=kind,
        signal=signal,
        message=message,
        emitted_at=signal.emitted_at,
    )
