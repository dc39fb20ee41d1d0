"""What must hold after a step, whatever was delayed, repeated, lost or restarted before it."""

from collections.abc import Iterable
from datetime import datetime

from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal
from spendmeter.domain.matching import Account, subject_of
from spendmeter.domain.window import Window, window_of
from spendmeter.values.account import budget_id_of, subject_in
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.spend.window_balance import KnownSpend
from spendmeter_stream.meter.meter import FoldResult
from tests.simulation.broker import PARTITIONS, Broker
from tests.simulation.calls import Call


class Violation(AssertionError):
    """A promise was broken."""


def check_folded(broker: Broker, partition: int, folded: FoldResult) -> None:
    """Each total is the sum of exactly the events that it claims: first copies, first to last offset."""
    for total in folded.totals:
        budget = broker.book.get(budget_id_of(total.account))
        window = window_of(budget, total.window_start) if budget else None
        if window is None or window.start != total.window_start:
            raise Violation(f"a total of no window: {total}")
        events = [
            r.event
            for r in broker.truth.in_window(total.account, window)
            if r.partition == partition
            and r.offset is not None
            and total.first_offset <= r.offset <= total.last_offset
        ]
        spent = sum(event.cost_nanousd for event in events)
        if type(total.spent_nanousd) is not int or (total.spent_nanousd, total.events) != (
            spent,
            len(events),
        ):
            raise Violation(f"{total} claims what is {spent} nano-USD in {len(events)} events")


def check_known(
    broker: Broker, account: Account, window: Window, known: KnownSpend, calls: Iterable[Call]
) -> None:
    """What a gateway is certain of never exceeds what was recorded in that window, or is about to be."""
    if _is_reset(broker, account, window):
        return
    most = _at_most(broker, account, window, calls)
    if known.certain_nanousd > most:
        raise Violation(f"{account.name} {window.start}: certain of {known}, recorded were {most} nano-USD")


def check_known_enough(account: Account, window: Window, known: KnownSpend, least_nanousd: int) -> None:
    """G5: a gateway knows what its signal tells, and all of its own spend that the signal does not include.

    So what it does not know of is others' spend that is on its way to it, and calls that run.
    """
    # A credit in doubt may be in the signal already, and is not owed then.
    if known.certain_nanousd + max(known.doubtful_nanousd, 0) < known.signal_nanousd + least_nanousd:
        raise Violation(f"{account.name} {window.start}: {known} lacks some of {least_nanousd} own nano-USD")


def check_refusal(broker: Broker, refusal: Denied, calls: Iterable[Call]) -> None:
    """G3: a request is refused only when events in the current window add up to the limit."""
    assert refusal.account is not None
    assert refusal.window is not None
    if _is_reset(broker, refusal.account, refusal.window):
        return
    most = _at_most(broker, refusal.account, refusal.window, calls)
    if most < refusal.limit_nanousd:
        raise Violation(f"false refusal: {refusal}, recorded were {most} nano-USD")


def _is_reset(broker: Broker, account: Account, window: Window) -> bool:
    """Whether this is a gateway whose clock is behind, and which is still before a reset that was made."""
    end = window.end
    return end is not None and end <= broker.now and end == account.budget.reset_at


def _at_most(broker: Broker, account: Account, window: Window, calls: Iterable[Call]) -> int:
    """What was recorded, without the credits that a gateway may not have heard of, and what is pending."""
    recorded = sum(max(r.event.cost_nanousd, 0) for r in broker.truth.in_window(account.name, window))
    return recorded + sum(
        call.cost_nanousd for call in calls if call.is_pending and _counts(call, account, window)
    )


def _counts(call: Call, account: Account, window: Window) -> bool:
    if call.answered is None or not window.holds(call.answered.occurred_at):
        return False
    subject = subject_of(call.answered)
    return all(value in subject.values(name) for name, value in subject_in(account.name).items())  # type: ignore[arg-type]


class SignalChecks:
    """Signals only ever move forward, and say no more than the events under their watermark."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._by_order: dict[tuple[str, tuple[object, ...]], Signal] = {}
        self._highest: dict[tuple[str, datetime], Signal] = {}

    def check(self, signal: Signal) -> None:
        if signal.window_end is not None and signal.window_end <= self._broker.now:
            # Nobody enforces it any more; it may have been cut short by a reset after it was counted,
            # or have been forgotten and begun anew for a very late event.
            return
        same = self._by_order.setdefault((signal.account, signal.order()), signal)
        if (same.spent_nanousd, same.watermark) != (signal.spent_nanousd, signal.watermark):
            raise Violation(f"two signals of one version: {same} and {signal}")
        where = (signal.account, signal.window_start)
        before, after = sorted((self._highest.setdefault(where, signal), signal), key=_version)
        includes_less = any(offset > after.watermark.get(p, -1) for p, offset in before.watermark.items())
        # A budget that counts anew says that something is missing, or was away and all of it forgotten.
        older, newer = sorted((before, after), key=_revision)
        anew = newer.revision > older.revision and (newer.opening or self._was_away(older))
        # One that its budget's match has left is nobody's; whoever lost its partition may write to it late.
        anew |= bool(self._broker.disturbed) and not _is_of(self._broker.book.get(signal.budget_id), signal)
        if includes_less and not anew:
            raise Violation(f"a higher version that includes less: {after} after {before}")
        self._highest[where] = after
        self._check_sum(signal)

    def _was_away(self, signal: Signal) -> bool:
        """Whether the signal's budget has been removed since the revision that it is of."""
        of_budget = [budget for budget_id, budget in self._broker.budgets if budget_id == signal.budget_id]
        told = next(n for n, b in enumerate(of_budget) if b is not None and b.revision == signal.revision)
        return None in of_budget[told:]

    def _check_sum(self, signal: Signal) -> None:
        broker, window = self._broker, Window(signal.window_start, signal.window_end)
        under = [
            r
            for r in broker.truth.in_window(signal.account, window)
            if r.offset is not None and r.offset <= signal.watermark.get(r.partition, -1)
        ]
        most = sum(max(r.event.cost_nanousd, 0) for r in under)
        must = sum(r.event.cost_nanousd for r in under)
        begins = [broker.begin_of(signal.budget_id, p) for p in range(PARTITIONS)]
        budget = broker.book.get(signal.budget_id)
        whole = budget is not None and budget.revision == signal.revision
        counted = all(r.offset is not None and r.offset >= begins[r.partition] for r in under)
        # Or all that came before has been merged, as it says itself.
        is_merged = not signal.opening and not broker.disturbed and _is_of(budget, signal)
        whole &= counted or is_merged
        if type(signal.spent_nanousd) is not int or signal.spent_nanousd > most:
            raise Violation(f"{signal} says more than the {most} nano-USD under its watermark")
        if whole and signal.spent_nanousd != must:
            raise Violation(f"{signal} is not the {must} nano-USD under its watermark")


def _is_of(budget: Budget | None, signal: Signal) -> bool:
    """Whether the account is still one of the budget's: its match may have changed."""
    return budget is not None and all(
        wanted in ("*", signal.subject[dimension]) for dimension, wanted in budget.match.items()
    )


def _revision(signal: Signal) -> int:
    return signal.revision


def _version(signal: Signal) -> int:
    return signal.version
