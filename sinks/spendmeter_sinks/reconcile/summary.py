"""All findings as one report. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from spendmeter.contract.total import HISTORY
from spendmeter.values.account import budget_id_of
from spendmeter_sinks.history.dead_letters import DeadLetterScan
from spendmeter_sinks.reconcile.find import Evidence
from spendmeter_sinks.reconcile.gaps import Losses
from spendmeter_sinks.reconcile.replay import ComparedComponent, Missing, Replay
from spendmeter_sinks.reconcile.report import (
    MAX_DIFFERENCES,
    MAX_NAMED,
    Compared,
    ConflictingEvents,
    DeadLetters,
    Difference,
    Events,
    LostEvents,
    NotCompared,
    OpeningMissing,
    Report,
    SignalDiffers,
    Sums,
    TotalDiffers,
)
from spendmeter_sinks.reconcile.scope import LeftOut, Scope
from spendmeter_sinks.reconcile.sequences import count
from spendmeter_sinks.reconcile.signals import SignalCheck
from spendmeter_sinks.reconcile.totals import ComparedWindow, Components, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    checked_at: datetime
    watermark: Mapping[int, int]
    components: Components
    scope: Scope
    recount: Replay
    letters: DeadLetterScan
    recorded: tuple[int, int]
    """Events in history up to the watermark, and their nano-USD."""
    losses: Losses
    check: SignalCheck
    changed: frozenset[str]
    """Budgets that were changed during the comparison."""
    evidence: Mapping[tuple[str, datetime, int], Evidence]
    seconds: float
    recount_seconds: float


def summarise(findings: Findings) -> Report:
    """The report; the first MAX_DIFFERENCES differences are in it."""
    differences = list(_differences(findings))
    return Report(
        equal=not differences,
        checked_at=findings.checked_at,
        watermark=dict(findings.watermark),
        compared=_compared(findings),
        nanousd=_sums(findings),
        dead_letters=DeadLetters(
            records=findings.letters.records,
            refused_by_history=len(findings.letters.refused),
            with_seq=sum(map(len, findings.letters.seqs.values())),
        ),
        differences=tuple(differences[:MAX_DIFFERENCES]),
        more_differences=max(0, len(differences) - MAX_DIFFERENCES),
        not_compared=tuple(_not_compared(findings)),
        seconds=round(findings.seconds, 3),
        rows_read=findings.recount.rows,
        rows_per_second=round(findings.recount.rows / max(findings.recount_seconds, 1e-6)),
    )


def _refused(findings: Findings) -> list[int]:
    """What the refused events up to the watermark cost, one by one."""
    return [
        refused.event.cost_nanousd
        for refused in findings.letters.refused.values()
        if refused.offset <= findings.watermark.get(refused.partition, -1)
    ]


def _compared(findings: Findings) -> Compared:
    windows = _compared_windows(findings)
    return Compared(
        events=findings.recorded[0] + len(_refused(findings)),
        producers=findings.losses.producers,
        accounts=len({where.account for where in windows}),
        windows=len(windows),
        signals=findings.check.compared,
    )


def _compared_windows(findings: Findings) -> dict[ComparedWindow, dict[int, ComparedComponent]]:
    return {
        where: lanes
        for where, lanes in findings.recount.windows.items()
        if where.budget_id not in findings.changed
    }


def _sums(findings: Findings) -> Sums:
    lanes = [lane for lanes in _compared_windows(findings).values() for lane in lanes.values()]
    balances = findings.recount.balances.items()
    lanes += [lane for where, lane in balances if where.budget_id not in findings.changed]
    return Sums(
        recorded=findings.recorded[1] + sum(_refused(findings)),
        stream=sum(lane.claimed.spent_nanousd for lane in lanes if lane.claimed),
        history=sum(lane.spent_nanousd for lane in lanes)
        + sum(missing.spent_nanousd for _, missing in _missing(findings)),
        signals=findings.check.signals_nanousd,
        totals=findings.check.totals_nanousd,
    )


def _missing(findings: Findings) -> list[tuple[ComparedWindow, Missing]]:
    missing = findings.recount.missing.items()
    return [(where, one) for where, one in missing if where.budget_id not in findings.changed]


def _differences(findings: Findings) -> Iterator[Difference]:
    for producer, ranges in sorted(findings.losses.lost.items()):
        yield LostEvents(
            producer_id=producer,
            ranges=tuple((r.first, r.last) for r in ranges[:MAX_NAMED]),
            more_ranges=max(0, len(ranges) - MAX_NAMED),
            events=count(ranges),
        )
    for conflict in findings.losses.conflicts:
        yield ConflictingEvents(
            producer_id=conflict.producer_id,
            seq=conflict.seq,
            event_ids=conflict.event_ids,
            costs_nanousd=conflict.costs_nanousd,
        )
    for where, missing in _missing(findings):
        yield OpeningMissing(
            account=where.account,
            window_start=where.window_start,
            history_nanousd=missing.spent_nanousd,
            history_events=missing.events,
        )
    for differing in findings.recount.differing():
        if differing.where.budget_id not in findings.changed:
            evidence = findings.evidence.get((*differing.where, differing.partition), Evidence())
            yield _total(*differing, evidence)
    for where, lane in findings.recount.balances.items():
        if where.budget_id not in findings.changed and not lane.agrees:
            yield _total(where, HISTORY, lane, Evidence())
    for mistold in findings.check.mismatches:
        if budget_id_of(mistold.account) not in findings.changed:
            yield SignalDiffers(
                account=mistold.account,
                window_start=mistold.window_start,
                signal_nanousd=mistold.signal_nanousd,
                totals_nanousd=mistold.totals_nanousd,
                detail=mistold.detail,
            )


def _total(
    where: ComparedWindow, source: Source, lane: ComparedComponent, evidence: Evidence
) -> TotalDiffers:
    return TotalDiffers(
        account=where.account,
        window_start=where.window_start,
        source_partition=source,
        first_offset=lane.claimed.first_offset if lane.claimed else None,
        last_offset=lane.until_offset,
        stream_nanousd=lane.claimed.spent_nanousd if lane.claimed else 0,
        history_nanousd=lane.spent_nanousd,
        stream_events=lane.claimed.events if lane.claimed else 0,
        history_events=lane.events,
        missing_in_history=Events.of(evidence.missing_in_history),
        altered_in_history=Events.of(evidence.altered_in_history),
        unknown_to_kafka=Events.of(evidence.unknown_to_kafka),
        suspects=Events.of(evidence.suspects),
    )


def _not_compared(findings: Findings) -> Iterator[NotCompared]:
    windows: Counter[str] = Counter()
    for where in findings.components:
        reason = findings.scope.of_account(where)
        if reason is None and where.budget_id in findings.changed:
            reason = LeftOut.CHANGED_MEANWHILE
        if reason is not None:
            windows[reason.value] += 1
    for text, number in sorted(windows.items()):
        yield NotCompared(what="windows", count=number, reason=text)
    for left, number in sorted(findings.check.left_out.items()):
        yield NotCompared(what="signals", count=number, reason=left.value)
