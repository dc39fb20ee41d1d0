"""Compares the latest signals with the totals that they rest on: spend and offsets. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from spendmeter.contract.signal import Signal
from spendmeter.contract.total import HISTORY
from spendmeter_sinks.reconcile.scope import LeftOut, Scope
from spendmeter_sinks.reconcile.totals import ComparedWindow, Components, Source, Totals, Version


@dataclass(frozen=True, slots=True)
class SignalMismatch:
    """A signal that differs from its totals."""

    account: str
    window_start: datetime
    signal_nanousd: int | None
    """None: there is no signal."""
    totals_nanousd: int
    detail: str
    may_follow: bool
    """Whether the judge may only be behind, so that another comparison is worthwhile."""


@dataclass(slots=True)
class SignalCheck:
    """The result of the comparison."""

    compared: int = 0
    signals_nanousd: int = 0
    totals_nanousd: int = 0
    mismatches: list[SignalMismatch] = field(default_factory=list)
    left_out: dict[LeftOut, int] = field(default_factory=dict)

    def leave_out(self, reason: LeftOut) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def compare_signals(
    signals: Mapping[str, Signal], totals: Totals, at_mark: Components, scope: Scope, now: datetime
) -> SignalCheck:
    """Compare each account's signal with the totals at the signal's own watermark, so that traffic makes no
    difference. By now all totals at the mark must be below that watermark.
    """
    check = SignalCheck()
    latest: dict[str, datetime] = {}
    for where in at_mark:
        if scope.of_account(where) is None:
            latest[where.account] = max(where.window_start, latest.get(where.account, where.window_start))
    for account in sorted(latest.keys() | signals.keys()):
        signal = signals.get(account)
        if signal is not None:
            reason = scope.of_account(ComparedWindow(account, signal.window_start))
            if reason is not None and (reason is not LeftOut.NOT_CHOSEN or account not in latest):
                check.leave_out(reason)
                continue
        mismatch = _compare(account, signal, latest.get(account), totals, at_mark, check)
        if mismatch is None:
            continue
        if mismatch.may_follow and scope.is_over(ComparedWindow(account, mismatch.window_start), now):
            check.leave_out(LeftOut.OVER)
        else:
            check.mismatches.append(mismatch)
    return check


def _compare(
    account: str,
    signal: Signal | None,
    latest: datetime | None,
    totals: Totals,
    at_mark: Components,
    check: SignalCheck,
) -> SignalMismatch | None:
    if signal is None or (latest is not None and signal.window_start < latest):
        assert latest is not None, "an account has a signal or totals"
        spent = _sum(at_mark[ComparedWindow(account, latest)])
        detail = "there is no signal" if signal is None else "the latest signal is of an earlier window"
        return SignalMismatch(account, latest, None, spent, detail, may_follow=True)
    where = ComparedWindow(account, signal.window_start)
    if signal.opening and (HISTORY in totals.latest.get(where, {}) or totals.opened(where) is not None):
        check.leave_out(LeftOut.OPENING)
        return None

    def mismatch(detail: str, spent: int, may_follow: bool) -> SignalMismatch:
        return SignalMismatch(account, where.window_start, signal.spent_nanousd, spent, detail, may_follow)

    latest_spent = _sum(totals.latest.get(where, {}))
    behind = [
        source
        for source, version in at_mark.get(where, {}).items()
        if isinstance(source, int) and signal.watermark.get(source, -1) < version.last_offset
    ]
    if behind:
        return mismatch(
            f"its watermark is behind the totals of partitions {sorted(behind)}", latest_spent, True
        )
    taken = totals.opened(where) or {}
    # Up to there history covers the partition, so no total needs to end there.
    counted = {p: offset for p, offset in signal.watermark.items() if offset + 1 > taken.get(p, 0)}
    versions = {p: totals.version_at(where, p, offset) for p, offset in counted.items()}
    absent = sorted(p for p, version in versions.items() if version is None)
    if absent:
        return mismatch(f"no total of partitions {absent} ends at its watermark", latest_spent, True)
    opening = totals.latest.get(where, {}).get(HISTORY)
    spent = sum(v.spent_nanousd for v in versions.values() if v)
    if opening is not None and (opening.before or {}) == taken:
        spent += opening.spent_nanousd
    check.compared += 1
    check.signals_nanousd += signal.spent_nanousd
    check.totals_nanousd += spent
    return (
        None if spent == signal.spent_nanousd else mismatch("it is not the sum of its totals", spent, False)
    )


def _sum(components: Mapping[Source, Version]) -> int:
    return sum(version.spent_nanousd for version in components.values())
