"""The alert: something that people or programs must know, sent once."""

import uuid
from datetime import datetime
from enum import StrEnum

from spendmeter.contract.signal import Signal
from spendmeter.contract.wire import Wire
from spendmeter.values.times import UtcTime, format_time

# The namespace is fixed for ever: it makes a repeated alert recognisable across restarts.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "alert.spendmeter.dev")


class AlertKind(StrEnum):
    """What happened. Each kind is sent once per account and window."""

    THRESHOLD = "threshold"
    EXCEEDED = "exceeded"
    RECOVERED = "recovered"
    FORECAST = "forecast"
    UNPRICED = "unpriced"
    DOUBTED = "doubted"
    """LiteLLM reports costs for a model that cannot be right; our figures count."""
    ACCOUNTS_CAPPED = "accounts_capped"
    """A budget has as many accounts as a worker keeps: further values share one sum, without a limit."""
    FOREIGN_PRODUCER = "foreign_producer"
    """Somebody writes to spend.usage under the id of another producer; it is put aside."""
    DRIFT = "drift"
    """Nothing sends it yet; readers must know it before anything does."""


def alert_id(account: str, window_start: datetime, kind: AlertKind, qualifier: str) -> uuid.UUID:
    """The id of an alert; a repeat always gets the same one.

    `qualifier` distinguishes alerts of one kind within a window: the threshold of a
    threshold alert, the count for exceeded and recovered, the limit of a forecast, the
    day of an unpriced or doubted model or of a foreign producer.
    """
    return uuid.uuid5(_NAMESPACE, "\n".join((account, format_time(window_start), kind, qualifier)))


class Alert(Wire):
    """One thing that somebody should know; sent again, it has the same `alert_id`."""

    alert_id: uuid.UUID
    kind: AlertKind
    signal: Signal | None = None
    """The state that caused it; absent only if no account is concerned."""
    message: str
    emitted_at: UtcTime
