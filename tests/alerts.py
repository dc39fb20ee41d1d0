"""Alerts with everything filled in, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.money import from_usd
from spendmeter.contract.signal import Signal, State
from spendmeter.values.account import account_name
from spendmeter_sinks.alerts.routes import Route, Service, Target

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def alert(
    kind: AlertKind = AlertKind.EXCEEDED,
    *,
    at: datetime | None = None,
    number: int = 0,
    budget: str = "team-month",
    spent: str = "50",
    limit: str = "50",
    signal: bool = True,
    window: timedelta | None = timedelta(days=30),
    message: str = "team-month: team research has spent its budget (50 of 50 USD); requests are refused",
    **subject: str,
) -> Alert:
    """An account of November, Berlin's, at its limit; `number` tells several apart."""
    at = at or datetime.now(UTC)
    subject = subject or {"team": "research"}
    begins = datetime(2026, 10, 31, 23, 0, tzinfo=UTC)
    account = account_name(budget, subject.items())
    found = Signal(
        budget_id=budget,
        account=account,
        subject=subject,
        window_start=begins,
        window_end=begins + window if window else None,
        limit_nanousd=from_usd(limit),
        spent_nanousd=from_usd(spent),
        state=State.EXCEEDED if kind is AlertKind.EXCEEDED else State.WARNING,
        threshold=0.8,
        watermark={0: 17},
        revision=3,
        version=9,
        forecast_exhausted_at=begins + timedelta(days=25) if kind is AlertKind.FORECAST else None,
        emitted_at=at,
    )
    return Alert(
        alert_id=alert_id(account, begins, kind, str(number)),
        kind=kind,
        signal=found if signal else None,
        message=message,
        emitted_at=at,
    )


def alert_about(
    kind: AlertKind, message: str, *, at: datetime = NOW, number: int = 0, **subject: str
) -> Alert:
    """An alert of no account: of whoever the subject names, or of everything."""
    return Alert(
        alert_id=alert_id(str(subject), at, kind, str(number)),
        kind=kind,
        subject=subject,
        message=message,
        emitted_at=at,
    )


def webhook(url: str, name: str = "hook", service: Service = Service.WEBHOOK, **fields: Any) -> Route:
    """A route to a webhook."""
    return Route(name, Target(service, SecretStr(url), SecretStr(SECRET), "HOOK_URL"), **fields)
