"""The report: what was compared, what differs, what could not be compared. Pure; `--json` prints it whole."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from spendmeter.contract.times import UtcTime

MAX_DIFFERENCES = 100
"""Named in a report; of the rest it says how many there are."""
MAX_NAMED = 20
"""Event ids or ranges named in one difference."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Events(Part):
    """Some event ids, and how many more there are."""

    ids: tuple[UUID, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, ids: tuple[UUID, ...]) -> "Events":
        return cls(ids=ids[:MAX_NAMED], more=max(0, len(ids) - MAX_NAMED))

    @property
    def count(self) -> int:
        return len(self.ids) + self.more


class LostEvents(Part):
    """Sequence numbers below a producer's highest that neither history nor the dead letters have."""

    kind: Literal["lost_events"] = "lost_events"
    producer_id: str
    ranges: tuple[tuple[int, int], ...]
    """First and last, both missing."""
    more_ranges: int = 0
    events: int


class ConflictingEvents(Part):
    """One sequence number with several event ids or costs."""

    kind: Literal["conflicting_events"] = "conflicting_events"
    producer_id: str
    seq: int
    event_ids: tuple[UUID, ...]
    costs_nanousd: tuple[int, ...]


class TotalDiffers(Part):
    """A component of a stream total is not what history adds up to over the same offsets."""

    kind: Literal["total_differs"] = "total_differs"
    account: str
    window_start: UtcTime
    source_partition: int | Literal["history"]
    """`history`: the opening balance, over the offsets of all partitions added up."""
    first_offset: int | None
    """None: the stream has no total here."""
    last_offset: int
    """The last offset that was compared."""
    stream_nanousd: int
    history_nanousd: int
    stream_events: int
    history_events: int
    missing_in_history: Events = Events()
    """Kafka has them, history does not."""
    altered_in_history: Events = Events()
    unknown_to_kafka: Events = Events()
    suspects: Events = Events()
    """Kafka and history agree on every event: those that alone would explain the difference, else all."""


class OpeningMissing(Part):
    """History holds events of a running window from before its budget was counted, and no opening balance
    has brought them in: signals say less than was spent.
    """

    kind: Literal["opening_missing"] = "opening_missing"
    account: str
    window_start: UtcTime
    history_nanousd: int
    history_events: int


class SignalDiffers(Part):
    """The latest signal of an account is not what the totals add up to at its watermark."""

    kind: Literal["signal_differs"] = "signal_differs"
    account: str
    window_start: UtcTime
    signal_nanousd: int | None
    totals_nanousd: int
    detail: str


Difference = Annotated[
    LostEvents | ConflictingEvents | OpeningMissing | TotalDiffers | SignalDiffers,
    Field(discriminator="kind"),
]


class Compared(Part):
    events: int = 0
    """In history up to the watermark, each once, and those that history refused."""
    producers: int = 0
    accounts: int = 0
    windows: int = 0
    """Of accounts: one account in two windows counts twice."""
    signals: int = 0


class Sums(Part):
    """Nano-USD; `stream` and `history` of the same components, `signals` and `totals` of the same signals.

    `history` has what no total has, too: `opening_missing`.
    """

    recorded: int = 0
    """Every event that `events` counts."""
    stream: int = 0
    history: int = 0
    signals: int = 0
    totals: int = 0


class DeadLetters(Part):
    """Records of spend.usage among the dead letters."""

    records: int = 0
    refused_by_history: int = 0
    """Events that the stream counts: they are in history's sums here too."""
    with_seq: int = 0
    """Their sequence numbers can be read and count as there."""


class NotCompared(Part):
    what: Literal["windows", "signals"]
    count: int
    reason: str


class Report(Part):
    equal: bool
    checked_at: UtcTime
    watermark: dict[int, int]
    """Partition of spend.usage: the last offset compared for certain."""
    compared: Compared
    nanousd: Sums
    dead_letters: DeadLetters
    differences: tuple[Difference, ...]
    more_differences: int
    not_compared: tuple[NotCompared, ...]
    seconds: float
    rows_read: int
    """Of history, to recount the totals."""
    rows_per_second: int
