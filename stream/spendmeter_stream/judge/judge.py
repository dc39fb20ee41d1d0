"""The judge: merges totals per account, compares them with the budget, and decides what to emit. Pure.

There is one judge per partition of spend.totals. It derives everything from the totals that it holds. So a
replay of totals yields signals that readers already have (same version) or ignore
(lower version), and alerts with ids that readers know.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import itemgetter
from sys import intern

from spendmeter.contract.alert import Alert
from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.total import HISTORY, Total, is_newer, total_key
from spendmeter.domain.matching import BudgetBook, rest_account
from spendmeter.domain.opening_balance import OpeningBalance
from spendmeter.domain.window import KEEP_CLOSED_WINDOWS, Window
from spendmeter.values.account import budget_id_of
from spendmeter_stream.judge.alerts import capped, crossings, recovery
from spendmeter_stream.judge.emission import COALESCE_FOR, Snapshot, should_emit, snapshot_of
from spendmeter_stream.judge.forecast import burnt
from spendmeter_stream.judge.merging import Merged, OpeningBalances, is_counted, merge, newly_spent, rest_on
from spendmeter_stream.judge.signals import signal_of
from spendmeter_stream.state import (
    ACCOUNT,
    OPENING_BALANCE,
    AccountState,
    AccountWindow,
    ChangelogEntry,
    TotalComponent,
)

# The heap is rebuilt once stale entries outnumber the others by this many.
MAX_STALE = 1_000


class Timers:
    """At most one moment for each account in a window, so their number is bounded."""

    def __init__(self) -> None:
        self._at: dict[AccountWindow, datetime] = {}
        self._heap: list[tuple[datetime, AccountWindow]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, where: AccountWindow) -> bool:
        return where in self._at

    def put(self, where: AccountWindow, at: datetime | None) -> None:
        """Judge the account again at that moment; None: nothing will change by itself."""
        if self._at.get(where) == at:
            return
        if at is None:
            del self._at[where]
            return
        self._at[where] = at
        heappush(self._heap, (at, where))
        if len(self._heap) > 2 * len(self._at) + MAX_STALE:
            self._heap = [(at, where) for where, at in self._at.items()]
            heapify(self._heap)

    def pop_due(self, now: datetime) -> Iterable[AccountWindow]:
        """The accounts whose moment has come."""
        while self._heap and self._heap[0][0] <= now:
            at, where = heappop(self._heap)
            if self._at.get(where) == at:
                del self._at[where]
                yield where


def next_change(budget: Budget, window: Window, exceeded: bool, now: datetime) -> datetime | None:
    """When a raise ends and lowers the limit, or a window ends and lets an exceeded account recover."""
    if not exceeded and not budget.raises:
        return None
    moments = [r.until for r in budget.raises if r.until > now]
    if exceeded and window.end is not None:
        moments.append(window.end)
    return min(moments, default=None)


MAX_AGAIN = 20_000
"""How many accounts are judged again at once: with a million at once, the worker would lose its session."""


@dataclass
class Evaluation:
    """What to publish. Signals and alerts go before entries, so that none is lost."""

    signals: list[Signal] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    """Accounts whose signal must be removed."""
    alerts: list[Alert] = field(default_factory=list)
    entries: list[ChangelogEntry] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Keys of totals from history that must be removed."""


class Judge:
    """The state of one partition of spend.totals."""

    def __init__(self, incarnation: str = "") -> None:
        """`incarnation`: the one of spend.usage that the totals' offsets belong to."""
        self.incarnation = incarnation
        self.accounts: dict[AccountWindow, AccountState] = {}
        # Dicts without values where order matters: a set's order differs from process to process.
        self._by_budget: dict[str, dict[AccountWindow, None]] = {}
        self._emitted: dict[str, Snapshot] = {}
        self._changed: dict[AccountWindow, None] = {}
        """Accounts that spent more since they were last judged."""
        self._waiting = Timers()
        """Accounts that spent more since their last signal, and when they get the next one at the latest."""
        self._again: dict[AccountWindow, None] = {}
        """Accounts to judge though nothing was spent, some of them at each call."""
        self._opening_balances = OpeningBalances()
        self._timers = Timers()
        """Accounts to judge at a certain time."""

    @classmethod
    def restore(cls, entries: Iterable[tuple[bytes, bytes]], incarnation: str = "") -> "Judge":
        """Restore the state from the changelog. Every account is judged again: readers recognise repeats."""
        judge = cls(incarnation)
        for key, value in entries:
            if key.startswith(OPENING_BALANCE):
                judge._opening_balances.restore(key, value)
                continue
            where = AccountWindow.read(key[len(ACCOUNT) :])
            judge._keep(where, AccountState.read(value))
            judge._again[where] = None
        return judge

    def apply(self, totals: Iterable[Total]) -> None:
        """Merge totals: per source the newest stays; order matters only where total.is_newer says so.

        A budget's opening balances count once the record that closes them has been read.
        """
        for total in totals:
            if total.closes_opening:
                if self._opening_balances.apply(total):
                    self._again |= self._by_budget.get(total.account, {})
                continue
            where = AccountWindow(total.account, total.window_start)
            state = self.accounts.get(where) or self._keep(where, AccountState())
            known = state.components.get(total.source_partition)
            revision = state.held.revision if state.held is not None else 0
            if known is not None and not is_newer(total, known, revision):
                continue
            if total.source_partition == HISTORY:
                state.held = OpeningBalance.of(total)
            state.unburnt_nanousd += newly_spent(total, known)
            state.components[total.source_partition] = TotalComponent(
                total.last_offset,
                total.spent_nanousd,
                total.events,
                total.first_offset,
                intern(total.shape or ""),
            )
            state.last_event_id = total.last_event_id or state.last_event_id
            self._changed[where] = None

    def opening(self, book: BudgetBook, now: datetime) -> list[str]:
        """The budgets without an opening balance here for the current window."""
        found = []
        for budget in book:
            window = book.window_of(budget, now)
            balance = self._opening_balances.of(budget.id, window.start) if window is not None else None
            if window is not None and (balance is None or balance.shape != book.shape_of(budget)):
                found.append(budget.id)
        return found

    def budget_changed(self, budget_id: str) -> None:
        """Have every account of the budget judged again: its limit, window or existence changed."""
        self._again |= self._by_budget.get(budget_id, {})

    def judge(self, book: BudgetBook, now: datetime) -> Evaluation:
        """Evaluate the accounts that changed since the last call, and those whose time has come."""
        evaluation = Evaluation()
        changed, self._changed = self._changed, {}
        snapshot = changed | dict.fromkeys(self._waiting.pop_due(now))
        again = dict.fromkeys(islice(self._again, MAX_AGAIN))
        due = dict.fromkeys(self._timers.pop_due(now))
        # Judge an account's earlier windows first, so that its last signal is that of the latest one.
        for where in sorted(snapshot | again | due, key=_beginning):
            state = self.accounts.get(where)
            self._again.pop(where, None)
            has_new_spend = where in snapshot or where in self._waiting
            self._waiting.put(where, None)
            if state is None:
                continue
            has_emitted = self._judge(where, state, has_new_spend, book, now, evaluation)
            if has_emitted or where in changed:
                evaluation.entries.append(ChangelogEntry(ACCOUNT + where.suffix(), state.value()))
        evaluation.entries += self._opening_balances.changes()
        return evaluation

    def _judge(
        self,
        where: AccountWindow,
        state: AccountState,
        has_new_spend: bool,
        book: BudgetBook,
        now: datetime,
        evaluation: Evaluation,
    ) -> bool:
        """Judge one account; returns whether its record of alerts changed."""
        emitted = self._emitted.get(where.account)
        budget = book.get(budget_id_of(where.account))
        if budget is None:
            if emitted is not None:
                evaluation.withdrawn.append(where.account)
                del self._emitted[where.account]
            return False
        window = book.window_of(budget, where.window_start)
        # A window of an earlier shape of the budget is history. After its end nothing more is emitted
        # for a window, whatever changes (a lowered limit, a restart), except that it is over.
        if window is None or window.start != where.window_start:
            return self._end(where, state, budget, book, now, evaluation)
        if not has_new_spend and window.end is not None and window.end <= now:
            return self._end(where, state, budget, book, now, evaluation)
        has_emitted = self._judge_window(where, state, budget, window, book, now, evaluation)
        self._timers.put(where, next_change(budget, window, state.exceeded, now))
        return has_emitted

    def _judge_window(
        self,
        where: AccountWindow,
        state: AccountState,
        budget: Budget,
        window: Window,
        book: BudgetBook,
        now: datetime,
        evaluation: Evaluation,
    ) -> bool:
        emitted = self._emitted.get(where.account)
        shape = book.shape_of(budget)
        is_rest = where.account == rest_account(budget) and is_counted(state.components, shape)
        if not is_rest:
            state.burn = burnt(state.burn, state.unburnt_nanousd, window, now)
        state.unburnt_nanousd = 0
        merged = self.merged(where, state, shape)
        rest_on(state, merged.opening)
        snapshot = snapshot_of(merged, budget, window, now)
        if is_rest:
            # This adds up many subjects, and the limit is for one.
            snapshot = snapshot._replace(state=State.OK, threshold=None)
        due = capped if is_rest else crossings
        if (
            emitted is not None
            and emitted.window_start > where.window_start
            and _is_window(book, budget, emitted)
        ):
            # The signal of a later window stays the account's last; a late crossing still sends its alert.
            signal = signal_of(where.account, state, snapshot, merged, window, self.incarnation)
            alerts = list(due(state, budget, signal))
            evaluation.alerts += alerts
            return bool(alerts)
        if emitted is not None and not should_emit(snapshot, emitted):
            # An unchanged version comes here, too; it has nothing to wait for.
            if snapshot.version > emitted.version:
                self._waiting.put(where, emitted.at + COALESCE_FOR)
            return False
        self._emitted[where.account] = snapshot
        signal = signal_of(where.account, state, snapshot, merged, window, self.incarnation)
        evaluation.signals.append(signal)
        alerts = list(due(state, budget, signal))
        evaluation.alerts += alerts
        return bool(alerts)

    def _end(
        self,
        where: AccountWindow,
        state: AccountState,
        budget: Budget,
        book: BudgetBook,
        now: datetime,
        evaluation: Evaluation,
    ) -> bool:
        """Send `recovered` if an exceeded account has a new window; returns whether it was exceeded."""
        was_exceeded, state.exceeded = state.exceeded, False
        window = book.window_of(budget, now) if was_exceeded else None
        if window is not None:
            there = AccountWindow(where.account, window.start)
            present = self.accounts.get(there) or AccountState()
            merged = self.merged(there, present, book.shape_of(budget))
            snapshot = snapshot_of(merged, budget, window, now)
            signal = signal_of(where.account, present, snapshot, merged, window, self.incarnation)
            evaluation.alerts += recovery(where.window_start, signal)
        return was_exceeded

    def expire(self, book: BudgetBook, now: datetime) -> Evaluation:
        """Forget windows that closed long ago and removed budgets, and withdraw their signals."""
        evaluation = Evaluation()
        for where, state in list(self.accounts.items()):
            budget_id = budget_id_of(where.account)
            budget = book.get(budget_id)
            window = book.window_of(budget, where.window_start) if budget else None
            if budget and window and (window.end is None or now < window.end + KEEP_CLOSED_WINDOWS):
                continue
            del self.accounts[where]
            self._changed.pop(where, None)
            self._by_budget[budget_id].pop(where, None)
            evaluation.entries.append(ChangelogEntry(ACCOUNT + where.suffix(), None))
            if state.held is not None:
                evaluation.forgotten.append(total_key(where.account, where.window_start, HISTORY))
            emitted = self._emitted.get(where.account)
            # Emitted by this judge, or by the one that it was restored from.
            if emitted is None or emitted.window_start == where.window_start:
                self._emitted.pop(where.account, None)
                evaluation.withdrawn.append(where.account)
        evaluation.forgotten += self._opening_balances.forget(book)
        evaluation.entries += self._opening_balances.changes()
        return evaluation

    def merged(self, where: AccountWindow, state: AccountState, shape: str) -> Merged:
        """The sum of an account's components, for a budget of that shape."""
        whole = self._opening_balances.of(budget_id_of(where.account), where.window_start)
        return merge(state.components, state.held, whole, shape)

    def _keep(self, where: AccountWindow, state: AccountState) -> AccountState:
        self.accounts[where] = state
        self._by_budget.setdefault(budget_id_of(where.account), {})[where] = None
        return state


_beginning = itemgetter(AccountWindow._fields.index("window_start"))


def _is_window(book: BudgetBook, budget: Budget, emitted: Snapshot) -> bool:
    """Whether the window of the last signal is still one of the budget's: its period may have changed."""
    window = book.window_of(budget, emitted.window_start)
    return window is not None and window.start == emitted.window_start
