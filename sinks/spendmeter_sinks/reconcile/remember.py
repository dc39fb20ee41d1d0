"""What is remembered of a comparison: figures, and what differs in lines that stay the same. Pure."""

from spendmeter.history.reconciles import ReconcileOutcome, ReconcileRun
from spendmeter.values.times import format_time
from spendmeter.visible import visible
from spendmeter_sinks.reconcile.report import (
    ConflictingEvents,
    Difference,
    LostEvents,
    OpeningMissing,
    Report,
    SignalDiffers,
    TotalDiffers,
    render_difference,
    usd,
)

MAX_SUMMARY_CHARS = 800


def remembered(report: Report, run_by: str) -> ReconcileRun:
    """The run that ended with this report."""
    compared = report.compared
    return ReconcileRun(
        checked_at=report.checked_at,
        duration_ms=round(report.seconds * 1_000),
        outcome=ReconcileOutcome.EQUAL if report.equal else ReconcileOutcome.DIFFERS,
        summary=summary(report),
        run_by=run_by,
        events=compared.events,
        accounts=compared.accounts,
        differences=report.all_differences,
        left_out=sum(left.count for left in report.not_compared),
        found=sorted(line_of(difference) for difference in report.differences),
    )


def summary(report: Report) -> str:
    """What a person reads first; of one line and at most MAX_SUMMARY_CHARS."""
    compared, sums = report.compared, report.nanousd
    scale = f"{compared.events:,} events of {compared.accounts:,} accounts, {usd(sums.recorded)}"
    if report.equal:
        return f"equal to the nano-dollar: {scale}"
    many, more = report.all_differences, sums.stream - sums.history
    figures = f"; totals have {usd(abs(more))} {'more' if more > 0 else 'less'} than history" if more else ""
    first = render_difference(report.differences[0])
    what = f"{many:,} differences" if many > 1 else "1 difference"
    return visible(f"{what} in {scale}{figures}. The first: {first}")[:MAX_SUMMARY_CHARS]


def line_of(difference: Difference) -> str:
    """What differs, without anything that changes from run to run while it stays so."""
    match difference:
        case LostEvents():
            parts = [difference.producer_id, f"events={difference.events}", *map(str, difference.ranges)]
        case ConflictingEvents():
            parts = [difference.producer_id, f"seq={difference.seq}"]
        case TotalDiffers():
            parts = [
                difference.account,
                format_time(difference.window_start),
                f"partition={difference.source_partition}",
                # Both sides grow with each event, and the difference stays.
                f"nanousd={difference.stream_nanousd - difference.history_nanousd}",
                f"events={difference.stream_events - difference.history_events}",
            ]
        case OpeningMissing() | SignalDiffers():
            parts = [difference.account, format_time(difference.window_start)]
    return visible(" ".join([difference.kind, *parts]))
