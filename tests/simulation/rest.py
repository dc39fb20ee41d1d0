"""What must hold once everything has arrived: all agree, to the nano-dollar."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from spendmeter.contract.alert import AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal
from spendmeter.domain.matching import Account
from spendmeter.domain.window import KEEP_CLOSED_WINDOWS, Window
from spendmeter.values.account import budget_id_of
from spendmeter_stream.judge.judge import Judge
from spendmeter_stream.judge.merging import Merged
from spendmeter_stream.state import AccountState, AccountWindow, TotalComponent
from tests.simulation.broker import PARTITIONS, Broker, Recorded, partition_of
from tests.simulation.checks import Violation
from tests.simulation.gateway import Gateway
from tests.simulation.workers import JudgeWorker, Kept, MeterWorker, Worker

Windows = Mapping[AccountWindow, tuple[Account, Window, list[Recorded]]]


def check_rest(
    broker: Broker, workers: Iterable[Worker], gateways: Iterable[Gateway], history: Mapping[UUID, Kept]
) -> None:
    """G1, G2, G6 over a system at rest. Raises Violation."""
    _check_history(broker, {i: kept.cost_nanousd for i, kept in history.items()})
    judged = {
        where: (worker.judge, state)
        for worker in workers
        if isinstance(worker, JudgeWorker)
        for where, state in worker.judge.accounts.items()
    }
    windows = _windows(broker)
    _check_accounts(broker, judged)
    _check_tallies(broker, workers, {where: state for where, (_, state) in judged.items()})
    for where, (account, window, events) in windows.items():
        judge, state = judged.get(where, (Judge(), AccountState()))
        merged = judge.merged(where, state, broker.book.shape_of(account.budget))
        is_whole = True
        for partition in range(PARTITIONS):
            here = [r for r in events if r.partition == partition]
            is_whole &= _check_component(broker, where, partition, here, state.components.get(partition))
        if not window.holds(broker.now):
            continue
        if not merged.is_whole and not broker.disturbed:
            raise Violation(f"{where}: everything is at rest, and its opening balance is not merged: {state}")
        if state.components:
            _check_told(broker, account, window, merged)
        # What a worker that had lost its partition wrote may be claimed though it is missing: guarantees.md.
        if is_whole or (merged.is_whole and not broker.disturbed):
            _check_whole(broker, gateways, account, window, merged, events)


def check_overspend(broker: Broker) -> None:
    """G5: no window costs more than its limit and what no gateway could know of. Raises Violation."""
    for where, (_account, _window, events) in _windows(broker).items():
        spent = sum(r.event.cost_nanousd for r in events)
        allowed = broker.allowed.get((where.account, where.window_start), spent)
        if spent > allowed:
            raise Violation(f"{where}: {spent} nano-USD were spent, {allowed} may be")


def _check_history(broker: Broker, history: Mapping[UUID, NanoUsd]) -> None:
    recorded = {i: r.event.cost_nanousd for i, r in broker.truth.recorded.items()}
    if recorded != history:
        apart = {i for i in recorded.keys() | history.keys() if recorded.get(i) != history.get(i)}
        raise Violation(f"history differs in {len(apart)} of {len(recorded)} events")


def _windows(broker: Broker) -> Windows:
    """Every window that something was spent in, under the budgets as they are now."""
    windows: dict[AccountWindow, tuple[Account, Window, list[Recorded]]] = {}
    for recorded in broker.truth.recorded.values():
        for account in broker.book.accounts_of(recorded.subject) if recorded.event.cost_nanousd else ():
            window = broker.book.window_of(account.budget, recorded.event.occurred_at)
            if window is not None and not _is_old(window, broker.now):
                where = AccountWindow(account.name, window.start)
                windows.setdefault(where, (account, window, []))[2].append(recorded)
    return windows


def _is_old(window: Window, now: datetime) -> bool:
    return window.end is not None and window.end + KEEP_CLOSED_WINDOWS <= now


def _check_accounts(broker: Broker, judged: Iterable[AccountWindow]) -> None:
    """No account is there of which nobody ever spent anything."""
    for where in judged:
        if not broker.truth.of(where.account):
            raise Violation(f"{where} was opened by what costs nothing")


def _check_tallies(
    broker: Broker, workers: Iterable[Worker], judged: Mapping[AccountWindow, AccountState]
) -> None:
    """Whatever a meter holds, the judge has heard of, or of something that reaches as far."""
    for worker in workers:
        if not isinstance(worker, MeterWorker):
            continue
        for counted, tally in worker.meter.tallies.items():
            where = AccountWindow(*counted[:2])
            budget = broker.book.get(budget_id_of(where.account))
            if budget is None or tally.last_offset < broker.counts_from[budget.id][worker.partition]:
                continue
            if tally.last_offset < tally.first_offset:
                continue
            window = broker.book.window_of(budget, where.window_start)
            if window is None or window.start != where.window_start or _is_old(window, broker.now):
                continue
            known = judged.get(where, AccountState()).components.get(worker.partition)
            if known is None or known.last_offset < tally.last_offset:
                raise Violation(f"the judge knows {known} of {where}, the meter has {tally}")


def _check_component(
    broker: Broker,
    where: AccountWindow,
    partition: int,
    events: Sequence[Recorded],
    known: TotalComponent | None,
) -> bool:
    """Check one partition's part; returns whether it holds every event of the window."""
    claimed = known.first_offset if known else None
    begin = broker.begin_of(budget_id_of(where.account), partition, claimed)
    offsets = [r.offset for r in events if r.offset is not None]
    must = [offset for offset in offsets if offset >= begin]
    if not must:
        return not offsets
    if known is None or known.first_offset > min(must) or known.last_offset < max(must):
        raise Violation(f"{where} partition {partition}: {known} lacks some of the offsets {must}")
    covered = [r for r in events if r.offset is not None and known.first_offset <= r.offset]
    spent = sum(r.event.cost_nanousd for r in covered)
    if (known.spent_nanousd, known.events) != (spent, len(covered)):
        raise Violation(f"{where} partition {partition}: {known} should be {spent} in {len(covered)} events")
    return len(covered) == len(events)


def _check_told(broker: Broker, account: Account, window: Window, merged: Merged) -> None:
    """What the judge holds of a window that is open is what it said of the account last."""
    said = broker.signals[partition_of(account.name)]
    begin = max((n + 1 for n, s in enumerate(said) if s == account.name), default=0)
    ours = [s for s in said[begin:] if isinstance(s, Signal) and s.account == account.name]
    # Of two of one order the later one counts.
    last = max(reversed(ours), key=Signal.order, default=None)
    if last is None or (
        last.window_start,
        last.revision,
        last.spent_nanousd,
        last.watermark,
        last.opening,
    ) != (
        window.start,
        account.budget.revision,
        merged.spent_nanousd,
        merged.watermark,
        not merged.is_whole,
    ):
        raise Violation(f"{account.name}: last said was {last}, not {window} {merged}")


def _check_whole(
    broker: Broker,
    gateways: Iterable[Gateway],
    account: Account,
    window: Window,
    merged: Merged,
    events: Sequence[Recorded],
) -> None:
    """What all gateways know of a window that is open is what was recorded; the crossings were told."""
    spent = sum(r.event.cost_nanousd for r in events)
    if merged.spent_nanousd != spent:
        raise Violation(f"{account.name} {window.start}: {merged} should be {spent} nano-USD")
    for gateway in gateways:
        known = gateway.spend.known(account.name, window.start)
        if (known.certain_nanousd, known.doubtful_nanousd) != (
            spent,
            0,
        ) and gateway.skew.total_seconds() == 0:
            raise Violation(f"{gateway.name} knows {known} of {account.name}, recorded were {spent} nano-USD")
    _check_alerts(broker, account.budget, account, window, spent)


def _check_alerts(broker: Broker, budget: Budget, account: Account, window: Window, spent: int) -> None:
    told = {alert.alert_id for alert in broker.alerts}
    limit = budget.limit_at(broker.now)
    for fraction in budget.warn_at:
        wanted = alert_id(account.name, window.start, AlertKind.THRESHOLD, f"{fraction}")
        if spent >= limit * fraction and wanted not in told:
            raise Violation(f"{account.name} {window.start}: nobody told that {fraction} was reached")
    of_account = [
        a
        for a in broker.alerts
        if a.signal is not None
        and (a.signal.account, a.signal.window_start) == (account.name, window.start)
        and a.kind in (AlertKind.EXCEEDED, AlertKind.RECOVERED)
    ]
    if spent >= limit and not any(a.kind is AlertKind.EXCEEDED for a in of_account):
        raise Violation(f"{account.name} {window.start}: nobody told that the limit was reached")
