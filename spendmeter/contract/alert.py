"""The alert: something that people or programs must know, sent once; and what became of it on each route."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from spendmeter.contract.signal import Signal
from spendmeter.contract.total import MAX_INCARNATION_CHARS
from spendmeter.contract.wire import Text, Whole, Wire
from spendmeter.values.times import UtcTime, format_time

# The namespace is fixed for ever: it makes a repeated alert recognisable across restarts.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "alert.spendmeter.dev")
MAX_REASON_CHARS = 500
"""Of why a delivery is held or was skipped."""


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
    ANOMALY = "anomaly"
    """Somebody spent much more in an hour than is usual for them at that time of the week."""
    UNUSED = "unused"
    """Somebody who spent before has made no request for long."""
    DIGEST = "digest"
    """What somebody spent in a day or week: nothing happened, it is their report."""
    DRIFT = "drift"
    """Recorded events, totals, signals and history are not equal; `spendmeter watch` compares them."""
    GATEWAY_SILENT = "gateway_silent"
    """A gateway that sent usage regularly sends none."""
    GATEWAY_BACK = "gateway_back"
    """A silent gateway sends usage again."""


def alert_id(account: str, window_start: datetime, kind: AlertKind, qualifier: str) -> uuid.UUID:
    """The id of an alert; a repeat always gets the same one.

    `qualifier` distinguishes alerts of one kind within a window: the threshold of a
    threshold alert, the count for exceeded and recovered, the limit of a forecast, the
    day of an unpriced or doubted model or of a foreign producer, which differences a drift
    has, the day and the size of an anomaly that lasts, the length of a digest's period.
    `account` and `window_start` of an alert that is of no account name what it is of,
    such as `gateway=g1`, and since when.
    """
    return uuid.uuid5(_NAMESPACE, "\n".join((account, format_time(window_start), kind, qualifier)))


class Alert(Wire):
    """One thing that somebody should know; sent again, it has the same `alert_id`."""

    alert_id: uuid.UUID
    kind: AlertKind
    signal: Signal | None = None
    """The state that caused it; absent only if no account is concerned."""
    subject: dict[str, Text] = Field(default_factory=dict)
    """Without a signal: whom it concerns, dimension to value. Empty where that is nobody alone."""
    message: str
    emitted_at: UtcTime

    @property
    def concerns(self) -> dict[str, str]:
        """Whom it concerns: the subject of its account, if it has one, else its own."""
        return self.signal.subject if self.signal is not None else self.subject


class DeliveryOutcome(StrEnum):
    """What became of an alert on a route."""

    STARTED = "started"
    """No alert: the route began with `offset` of spend.alerts."""
    HELD = "held"
    """It is sent at `due_at`: a digest, quiet hours, or a route that waits."""
    SENT = "sent"
    SKIPPED = "skipped"


class AlertDelivery(Wire):
    """The latest of a route and an alert counts; both together are the record's key."""

    route: Text
    """Empty where no route matches the alert."""
    alert_id: uuid.UUID | None
    outcome: DeliveryOutcome
    at: UtcTime
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    """Why it is held, was skipped, or is not said again."""
    attempts: Whole = Field(default=0, ge=0)
    """How often it was offered to the receiver until it was sent or skipped."""
    reminders: Whole = Field(default=0, ge=0)
    """Sent since the alert itself."""
    due_at: UtcTime | None = None
    """When a held alert is sent; of one that was sent, when the next reminder is."""
    offset: Whole | None = None
    """Of spend.alerts: where the route began."""
    incarnation: str = Field(default="", max_length=MAX_INCARNATION_CHARS)
    """Of spend.alerts, whose offset this is."""
    alert: Alert | None = None

    def key(self) -> str:
        """`route|alert_id`; of a route's beginning `route|`."""
        return f"{self.route}|{self.alert_id or ''}"
