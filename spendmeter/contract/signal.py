"""The budget signal: the state of one account, for gateways and anyone else who subscribes."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, Strict

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import MAX_INCARNATION_CHARS
from spendmeter.contract.wire import Whole, Wire
from spendmeter.values.times import UtcTime

CLOSE_TO_LIMIT_SHARE = 0.8
"""From this share of the limit on, every event and every signal is sent at once."""
COALESCE_SHARE = 0.01
"""So are changes that add up to this share of the limit. Anything smaller may wait for others."""


class State(StrEnum):
    """The state of an account: below every threshold, past one, or at its limit."""

    OK = "ok"
    WARNING = "warning"
    EXCEEDED = "exceeded"


class Signal(Wire):
    """The spend of an account, with every event under its watermark counted."""

    budget_id: str
    account: str
    subject: dict[str, str]
    window_start: UtcTime
    window_end: UtcTime | None
    limit_nanousd: Annotated[NanoUsd, Strict()]
    spent_nanousd: Annotated[NanoUsd, Strict()]
    state: State
    threshold: float | None = None
    """The highest fraction of the limit that was reached; 1.0 when exceeded, None below the first."""
    watermark: dict[int, int]
    """Source partition of spend.usage: the last offset that `spent_nanousd` includes."""
    incarnation: str = Field(default="", max_length=MAX_INCARNATION_CHARS)
    """Kafka's id of spend.usage, to which the watermark's offsets belong. Empty in older records."""
    revision: Whole
    """The budget's."""
    version: Whole = Field(ge=0)
    """Rises per account with the events accounted for, so a replay can never overtake."""
    cause_event_id: UUID | None = None
    forecast_exhausted_at: UtcTime | None = None
    opening: bool = False
    """The spend from before the budget was counted is still missing: more was spent than it says."""
    emitted_at: UtcTime

    def order(self) -> tuple[int, datetime, int]:
        """A reader that keeps one signal per account keeps the one with the highest of these.

        The revision leads: a budget whose period grows (a day to a month) gets a window that
        begins earlier than the one it replaces (docs/decisions/0003).
        """
        return (self.revision, self.window_start, self.version)
