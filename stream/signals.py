"""Signals as the judge makes them, and the one alert that is of no account. Pure."""

from datetime import datetime
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.matching import subject_in
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.window import Window
from stream.changelog import AccountState
from stream.crossings import share
from stream.forecast import exhausted_at
from stream.merging import Merged


def signal_of(
    account: str, state: AccountState, merged: Merged, budget: Budget, window: Window, now: datetime
) -> Signal:
    """The state of an account whose parts add up to `merged`."""
    spent, limit = merged.spent_nanousd, budget.limit_at(now)
    reached = [fraction for fraction in budget.warn_at if spent >= share(limit, fraction)]
    exceeded = spent >= limit
    return Signal(
        budget_id=budget.id,
        account=account,
        subject=subject_in(account),
        window_start=window.start,
        window_end=window.end,
        limit_nanousd=limit,
        spent_nanousd=spent,
        state=State.EXCEEDED if exceeded else State.WARNING if reached else State.OK,
        threshold=1.0 if exceeded else max(reached, default=None),
        watermark=merged.watermark,
        revision=budget.revision,
        version=merged.version,
        cause_event_id=state.last_event_id,
        forecast_exhausted_at=exhausted_at(state.burn, NanoUsd(limit - spent), window, now),
        opening=not merged.is_whole,
        emitted_at=now,
    )


def unpriced_alert(model: str, event_id: UUID, now: datetime) -> Alert:
    """Tell, once a day and model, that requests are served whose price nobody knows."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Alert(
        alert_id=alert_id(f"model={model}", day, AlertKind.UNPRICED, "day"),
        kind=AlertKind.UNPRICED,
        message=f"model {model} has no price: its requests count as 0 USD (first seen in event {event_id})",
        emitted_at=now,
    )
