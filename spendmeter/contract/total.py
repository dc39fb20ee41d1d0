"""The total: what one source partition has added to one account in one window, cumulative."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, Strict

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.times import UtcTime, format_time
from spendmeter.contract.wire import Whole, Wire

HISTORY = "history"
Offset = Annotated[Whole, Field(ge=0)]


class Total(Wire):
    """One component of a grow-only counter; the reader keeps, per source partition, the latest.

    It covers the offsets `first_offset` … `last_offset` of its source partition, both included:
    every event of the account in between is accounted for, a dropped duplicate too.
    """

    account: str
    window_start: UtcTime
    source_partition: Whole | Literal["history"]
    spent_nanousd: Annotated[NanoUsd, Strict()]
    events: Whole = Field(ge=0)
    first_offset: Offset
    """Counting began here: everything of this window before it is the opening balance's."""
    last_offset: Offset
    last_event_id: UUID | None = None
    """The event counted last; it is the cause of a crossing that this total makes."""

    def key(self) -> str:
        """`account|window_start|source_partition`: compaction keeps every component."""
        return f"{self.account}|{format_time(self.window_start)}|{self.source_partition}"
