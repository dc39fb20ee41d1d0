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
"""From this share of the limit on, every event and every signal travels at once."""
COALESCE_SHARE = 0.01
"""So does what is this share of the limit, or has become it since. Anything less may wait for others."""


class State(StrEnum):
    """How far an account has come: below every threshold, past one, or at its limit."""

    OK = "ok"
    WARNING = "warning"
    EXCEEDED = "exceeded"


class Signal(Wire):
    """What an account had spent when every event under its watermark had been counted."""

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
    """Of spend.usage, Kafka's id of the topic that the watermark's offsets are of. Empty in older records."""
    revision: Whole
    """Of the budget."""
    version: Whole = Field(ge=0)
    """Monotone per account: the events accounted for, so that a replay can never overtake."""
    cause_event_id: UUID | None = None
    forecast_exhausted_at: UtcTime | None = None
    opening: bool = False
    """What the window held before the budget was counted is not in it yet: more was spent than it says."""
    emitted_at: UtcTime

    def order(self) -> tuple[int, datetime, int]:
        """What a reader that holds one signal per account keeps the highest of.

        The revision leads: a budget whose period grows (a day to a month) gets a window that
        begins earlier than the one it replaces (docs/decisions/0003).
        """
        return (self.revision, self.window_start, self.version)
