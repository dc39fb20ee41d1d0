"""The delivery: what became of an alert on one route of the relay, and why."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from spendmeter.contract.alert import Alert
from spendmeter.contract.total import MAX_INCARNATION_CHARS
from spendmeter.contract.wire import Text, Whole, Wire
from spendmeter.values.times import UtcTime

MAX_REASON_CHARS = 500


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
    alert_id: UUID | None
    outcome: DeliveryOutcome
    at: UtcTime
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    """Why it is held or was skipped."""
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
