"""The report: what was compared, what differs, what could not be compared. Pure; `--json` prints it whole."""

from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.values.times import UtcTime, format_time
from spendmeter.visible import visible

MAX_DIFFERENCES = 100
"""Differences named in a report; it gives the number of the others."""
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
    """Sequence numbers below a producer's highest that are in neither history nor the dead letters."""

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
    """A component of a stream total differs from the sum of history over the same offsets."""

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
    includes them: signals show less than was spent.
    """

    kind: Literal["opening_missing"] = "opening_missing"
    account: str
    window_start: UtcTime
    history_nanousd: int
    history_events: int


class SignalDiffers(Part):
    """The latest signal of an account differs from the sum of its totals at its watermark."""

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
    """Windows of accounts: one account in two windows counts twice."""
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

    @property
    def all_differences(self) -> int:
        """How many, those that are not named included."""
        return len(self.differences) + self.more_differences


def render(report: Report) -> str:
    """The report in a few lines; each difference in one."""
    return "\n".join(map(visible, _lines(report)))


def _lines(report: Report) -> Iterator[str]:
    compared, sums, dead = report.compared, report.nanousd, report.dead_letters
    yield "equal to the nano-dollar" if report.equal else f"{report.all_differences} differences"
    yield (
        f"  recorded   {compared.events:,} events of {compared.producers:,} producers, {usd(sums.recorded)}"
    )
    yield (
        f"  totals     {compared.windows:,} windows of {compared.accounts:,} accounts:"
        f" stream {usd(sums.stream)}, history {usd(sums.history)}"
    )
    yield (
        f"  signals    {compared.signals:,} accounts: signals {usd(sums.signals)}, totals {usd(sums.totals)}"
    )
    if dead.records:
        yield (
            f"  dead       {dead.records:,} records of spend.usage are dead letters;"
            f" {dead.refused_by_history:,} of them are counted events that history refused"
        )
    for left in report.not_compared:
        yield f"  left out   {left.count:,} {left.what}: {left.reason}"
    yield (
        f"  read       {report.rows_read:,} rows of history in {report.seconds:.1f} s"
        f" ({report.rows_per_second:,} rows/s)"
    )
    for difference in report.differences:
        yield "  DIFFERS    " + render_difference(difference)
    if report.more_differences:
        yield f"  DIFFERS    and {report.more_differences:,} more"


def render_difference(difference: Difference) -> str:
    """One difference in a line."""
    match difference:
        case LostEvents():
            ranges = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in difference.ranges)
            more = f" and {difference.more_ranges} more ranges" if difference.more_ranges else ""
            return f"producer {difference.producer_id}: {difference.events:,} events lost, seq {ranges}{more}"
        case ConflictingEvents():
            ids = ", ".join(map(str, difference.event_ids))
            costs = ", ".join(map(usd, difference.costs_nanousd))
            return f"producer {difference.producer_id}, seq {difference.seq}: event ids {ids}; costs {costs}"
        case OpeningMissing():
            return (
                f"{difference.account} from {format_time(difference.window_start)}: the budget has no opening"
                f" balance; {usd(difference.history_nanousd)} in {difference.history_events:,} events from"
                " before it was counted are in history and in no signal. A ClickHouse sink adds it up; its"
                " log says what it waits for"
            )
        case TotalDiffers():
            return _render_total(difference)
        case SignalDiffers():
            signal = "nothing" if difference.signal_nanousd is None else usd(difference.signal_nanousd)
            return (
                f"{difference.account} from {format_time(difference.window_start)}:"
                f" signal {signal}, totals {usd(difference.totals_nanousd)}; {difference.detail}"
            )


def _render_total(total: TotalDiffers) -> str:
    found = [
        _named("missing in history", total.missing_in_history),
        _named("with another amount in history", total.altered_in_history),
        _named("unknown to Kafka", total.unknown_to_kafka),
        _named("suspected in the stream", total.suspects),
    ]
    start, partition = format_time(total.window_start), total.source_partition
    first = "no total" if total.first_offset is None else f"offsets {total.first_offset}–{total.last_offset}"
    return (
        f"{total.account} from {start}, partition {partition} ({first}):"
        f" stream {usd(total.stream_nanousd)} in {total.stream_events:,} events,"
        f" history {usd(total.history_nanousd)} in {total.history_events:,}"
        + "".join(f"; {text}" for text in found if text)
    )


def _named(what: str, events: Events) -> str:
    if not events.count:
        return ""
    more = f" and {events.more} more" if events.more else ""
    return f"{what}: {', '.join(map(str, events.ids))}{more}"


def usd(nanousd: int) -> str:
    """`$1.5`: exact."""
    return f"${format_usd(NanoUsd(nanousd))}"
