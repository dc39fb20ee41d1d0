"""A report as people read it. Pure."""

from collections.abc import Iterator

from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.times import format_time
from spendmeter.visible import visible
from spendmeter_sinks.reconcile.report import (
    ConflictingEvents,
    Difference,
    Events,
    LostEvents,
    OpeningMissing,
    Report,
    SignalDiffers,
    TotalDiffers,
)


def render(report: Report) -> str:
    """The report in a few lines; each difference in one."""
    return "\n".join(map(visible, _lines(report)))


def _lines(report: Report) -> Iterator[str]:
    compared, sums, letters = report.compared, report.nanousd, report.dead_letters
    many = len(report.differences) + report.more_differences
    yield "equal to the nano-dollar" if report.equal else f"{many} differences"
    yield (
        f"  recorded   {compared.events:,} events of {compared.producers:,} producers, {_usd(sums.recorded)}"
    )
    yield (
        f"  totals     {compared.windows:,} windows of {compared.accounts:,} accounts:"
        f" stream {_usd(sums.stream)}, history {_usd(sums.history)}"
    )
    yield (
        f"  signals    {compared.signals:,} accounts:"
        f" signals {_usd(sums.signals)}, totals {_usd(sums.totals)}"
    )
    if letters.records:
        yield (
            f"  dead       {letters.records:,} records of spend.usage are dead letters;"
            f" {letters.refused_by_history:,} of them are counted events that history refused"
        )
    for left in report.not_compared:
        yield f"  left out   {left.count:,} {left.what}: {left.reason}"
    yield (
        f"  read       {report.rows_read:,} rows of history in {report.seconds:.1f} s"
        f" ({report.rows_per_second:,} rows/s)"
    )
    for difference in report.differences:
        yield "  DIFFERS    " + _render(difference)
    if report.more_differences:
        yield f"  DIFFERS    and {report.more_differences:,} more"


def _render(difference: Difference) -> str:
    match difference:
        case LostEvents():
            ranges = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in difference.ranges)
            more = f" and {difference.more_ranges} more ranges" if difference.more_ranges else ""
            return f"producer {difference.producer_id}: {difference.events:,} events lost, seq {ranges}{more}"
        case ConflictingEvents():
            ids = ", ".join(map(str, difference.event_ids))
            costs = ", ".join(map(_usd, difference.costs_nanousd))
            return f"producer {difference.producer_id}, seq {difference.seq}: event ids {ids}; costs {costs}"
        case OpeningMissing():
            return (
                f"{difference.account} from {format_time(difference.window_start)}: the budget has no opening"
                f" balance; {_usd(difference.history_nanousd)} in {difference.history_events:,} events from"
                " before it was counted are in history and in no signal. A ClickHouse sink takes it; its log"
                " says what it waits for"
            )
        case TotalDiffers():
            return _render_total(difference)
        case SignalDiffers():
            told = "nothing" if difference.signal_nanousd is None else _usd(difference.signal_nanousd)
            return (
                f"{difference.account} from {format_time(difference.window_start)}:"
                f" signal {told}, totals {_usd(difference.totals_nanousd)}; {difference.detail}"
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
        f" stream {_usd(total.stream_nanousd)} in {total.stream_events:,} events,"
        f" history {_usd(total.history_nanousd)} in {total.history_events:,}"
        + "".join(f"; {text}" for text in found if text)
    )


def _named(what: str, events: Events) -> str:
    if not events.count:
        return ""
    more = f" and {events.more} more" if events.more else ""
    return f"{what}: {', '.join(map(str, events.ids))}{more}"


def _usd(nanousd: int) -> str:
    return f"${format_usd(NanoUsd(nanousd))}"
