"""The total: what one source partition has added to one account in one window, cumulative; and the opening.

An opening says from which source offset on the stream has counted a budget. History has what is before it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Protocol
from uuid import UUID

from pydantic import Field, Strict

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.wire import OptionalText, Whole, Wire
from spendmeter.values.account import is_account
from spendmeter.values.times import UtcTime, remembered_time

HISTORY = "history"
EARLIER = -1
"""In `before`, the source partition that stands for all earlier incarnations of spend.usage: its offset is
the sum of their offsets in history."""
MAX_INCARNATION_CHARS = 64
MAX_ACCOUNT_CHARS = 80_000
"""More than the longest name from a budget's id and an event's texts."""
Offset = Annotated[Whole, Field(ge=0)]


class Total(Wire):
    """One component of a grow-only counter; the reader keeps, per source partition, the latest.

    It covers the offsets `first_offset` … `last_offset` of its source partition, both included:
    every event of the account in between is accounted for, dropped duplicates included.
    """

    account: str = Field(max_length=MAX_ACCOUNT_CHARS)
    window_start: UtcTime
    source_partition: Whole | Literal["history"]
    spent_nanousd: Annotated[NanoUsd, Strict()]
    events: Whole = Field(ge=0)
    first_offset: Offset
    """Counting began here: everything of this window before it belongs to the opening balance."""
    last_offset: Offset
    last_event_id: UUID | None = None
    """The event counted last; it is the cause of an alert that this total triggers."""
    before: dict[int, Offset] | None = None
    """Of an opening balance, by source partition: it includes everything below this offset. EARLIER
    stands for earlier incarnations of spend.usage."""
    shape: OptionalText = None
    """A digest of what the budget counted: `matching.definition_digest`."""
    revision: Whole = 0
    """Of an opening balance: the budget's revision when it was added up."""
    incarnation: str = Field(default="", max_length=MAX_INCARNATION_CHARS)
    """Of spend.usage, Kafka's id of the topic: which one the offsets are of. Empty in older records."""

    @property
    def closes_opening(self) -> bool:
        """Whether it belongs to no account: its `account` is a budget's id, and it marks that the opening
        balances of all the budget's accounts come before it, for windows that begin at `window_start` or
        later.
        """
        return not is_account(self.account)

    def key(self) -> str:
        """`account|window_start|source_partition`: compaction keeps every component."""
        return total_key(self.account, self.window_start, self.source_partition)


def included_by(total: Total) -> Mapping[int, int]:
    """By source partition: the last offset that a total includes, without earlier incarnations."""
    if total.source_partition == HISTORY:
        before = total.before or {}
        return {partition: offset - 1 for partition, offset in before.items() if partition != EARLIER}
    return {int(total.source_partition): total.last_offset}


def total_key(account: str, window_start: datetime, source: int | str) -> str:
    """The key of a component's record on spend.totals."""
    return f"{account}|{remembered_time(window_start)}|{source}"


class HeldTotal(Protocol):
    """What a reader keeps of a component's latest total."""

    @property
    def first_offset(self) -> int: ...

    @property
    def last_offset(self) -> int: ...

    @property
    def shape(self) -> str | None: ...


def is_newer(total: Total, held: HeldTotal, held_revision: int = 0) -> bool:
    """Whether `total` replaces `held`, which a reader has of the component: the rule of every reader.

    The higher last_offset is newer. At the same offset a total replaces one that was counted in another
    shape: the budget changed while a worker replayed. Then the one that was opened later is newer, or, if
    both begin at the same offset, the one that was written later. Of two opening balances at the same offsets
    the one with the lower revision is older (`held_revision`: that of `held`).
    """
    if total.last_offset != held.last_offset:
        return total.last_offset > held.last_offset
    if total.source_partition == HISTORY:
        return total.revision >= held_revision
    return (total.shape or "") != (held.shape or "") and total.first_offset >= held.first_offset


class Opening(Wire):
    """Where counting began in one source partition; for `history`: everything before it has been added up."""

    budget_id: str
    shape: str
    """A digest of what the budget counts: another shape has its own openings."""
    source_partition: Whole | Literal["history"]
    first_offset: Offset
    """The first counted offset; for `history`, the sum of those in `before`."""
    before: dict[int, Offset] = Field(default_factory=dict)
    """For `history` only, by source partition: everything below this offset was added up from history;
    EARLIER
    stands for earlier incarnations of spend.usage."""
    revision: Whole = 0
    """For `history` only: the budget's revision at that time."""
    incarnation: str = Field(default="", max_length=MAX_INCARNATION_CHARS)
    """Of spend.usage, Kafka's id of the topic: which one the offsets are of. Empty in older records."""

    def key(self) -> str:
        """`budget_id|shape|source_partition`; `budget_id|history`, because only the last one counts."""
        shape = () if self.source_partition == "history" else (self.shape,)
        return "|".join((self.budget_id, *shape, str(self.source_partition)))
