"""The judge: merges totals per account, compares with the budget, and says what to tell. Pure.

One judge per partition of spend.totals. It derives everything from the totals it holds, so a
replay of totals yields signals that readers already have (same version) or that they ignore
(lower version), and alerts with ids that were seen before.
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

# What was moved or dropped is swept out of the heap once it outnumbers the rest by this many.
MAX_STALE = 1_000


class Timers:
    """One moment at most for each account in a window; so there are never more than those."""

    def __init__(self) -> None:
        self._at: dict[AccountWindow, datetime] = {}
        self._heap: list[tuple[datetime, AccountWindow]] = []

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, where: AccountWindow) -> bool:
        return where in self._at

    def put(self, where: AccountWindow, at: datetime | None) -> None:
        """Judge it again then; None: nothing will change by itself."""
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
        """Those whose moment has come."""
        while self._heap and self._heap[0][0] <= now:
            at, where = heappop(self._heap)
            if self._at.get(where) == at:
                del self._at[where]
                yield where


def next_change(budget: Budget, window: Window, exceeded: bool, now: datetime) -> datetime | None:
    """When the limit falls because a raise ends, or an exceeded account recovers because its window does."""
    if not exceeded and not budget.raises:
        return None
    moments = [r.until for r in budget.raises if r.until > now]
    if exceeded and window.end is not None:
        moments.append(window.end)
    return min(moments, default=None)


MAX_AGAIN = 20_000
"""How many accounts are judged again at once: all of a million would keep the worker from its session."""


@dataclass
class Evaluation:
    """What to publish, in this order: signals and alerts before entries, so that none is lost."""

    signals: list[Signal] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    """Accounts whose signal is to be removed."""
    alerts: list[Alert] = field(default_factory=list)
    entries: list[ChangelogEntry] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Keys of totals of history that are to be removed."""


class Judge:
    """The state of one partition of spend.totals."""

    def __init__(self, incarnation: str = "") -> None:
        """`incarnation`: of spend.usage, which the totals' offsets are of."""
        self.incarnation = incarnation
        self.accounts: dict[AccountWindow, AccountState] = {}
        # Dicts without values where order matters: a set's is another one in each process.
        self._by_budget: dict[str, dict[AccountWindow, None]] = {}
        self._emitted: dict[str, Snapshot] = {}
        self._changed: dict[AccountWindow, None] = {}
        """What spent more since it was last judged."""
        self._waiting = Timers()
        """What spent more since it was last told, until it is told in any case."""
        self._again: dict[AccountWindow, None] = {}
        """What is to be judged though nothing was spent, some of it at each call."""
        self._opening_balances = OpeningBalances()
        self._timers = Timers()
        """What is to be judged once its time has come."""

    @classmethod
    def restore(cls, entries: Iterable[tuple[bytes, bytes]], incarnation: str = "") -> "Judge":
        """The state as the changelog has it. Every account is judged again: readers know repeats."""
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

        What history had for a budget counts once the word that this is all comes after it.
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
        """The budgets whose opening balance has not been read here, for the window that runs now."""
        found = []
        for budget in book:
            window = book.window_of(budget, now)
            taken = self._opening_balances.of(budget.id, window.start) if window is not None else None
            if window is not None and (taken is None or taken.shape != book.shape_of(budget)):
                found.append(budget.id)
        return found

    def budget_changed(self, budget_id: str) -> None:
        """Judge every account of the budget again: its limit, window or existence changed."""
        self._again |= self._by_budget.get(budget_id, {})

    def judge(self, book: BudgetBook, now: datetime) -> Evaluation:
        """Say what the totals taken since the last call, and those still waiting, amount to."""
        evaluation = Evaluation()
        changed, self._changed = self._changed, {}
        snapshot = changed | dict.fromkeys(self._waiting.pop_due(now))
        again = dict.fromkeys(islice(self._again, MAX_AGAIN))
        due = dict.fromkeys(self._timers.pop_due(now))
        # Of an account's windows the earlier first: the last signal is that of the latest.
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
        """Judge one account; returns whether what it has told changed."""
        emitted = self._emitted.get(where.account)
        budget = book.get(budget_id_of(where.account))
        if budget is None:
            if emitted is not None:
                evaluation.withdrawn.append(where.account)
                del self._emitted[where.account]
            return False
        window = book.window_of(budget, where.window_start)
        # A window of an earlier shape of the budget is history. One that has ended is over: a limit
        # that was lowered since, or a restart, makes nothing known of it anew but that it is over.
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
            # Many subjects' spend, which no limit is for.
            snapshot = snapshot._replace(state=State.OK, threshold=None)
        due = capped if is_rest else crossings
        if (
            emitted is not None
            and emitted.window_start > where.window_start
            and _is_window(book, budget, emitted)
        ):
            # The signal of a later window stays the account's last; a late crossing is still told.
            signal = signal_of(where.account, state, snapshot, merged, window, self.incarnation)
            alerts = list(due(state, budget, signal))
            evaluation.alerts += alerts
            return bool(alerts)
        if emitted is not None and not should_emit(snapshot, emitted):
            # Also news that nothing has changed since comes here; it has nothing to wait for.
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
        """Tell that an account whose last told state was exceeded has a new window; whether it was."""
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
        """Forget windows that closed long ago and budgets that are gone; their signals are withdrawn."""
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
            # Told by this judge, or by one before it that this one was restored from.
            if emitted is None or emitted.window_start == where.window_start:
                self._emitted.pop(where.account, None)
                evaluation.withdrawn.append(where.account)
        evaluation.forgotten += self._opening_balances.forget(book)
        evaluation.entries += self._opening_balances.changes()
        return evaluation

    def merged(self, where: AccountWindow, state: AccountState, shape: str) -> Merged:
        """What the parts of an account add up to, for a budget of that shape."""
        taken = self._opening_balances.of(budget_id_of(where.account), where.window_start)
        return merge(state.components, state.held, taken, shape)

    def _keep(self, where: AccountWindow, state: AccountState) -> AccountState:
        self.accounts[where] = state
        self._by_budget.setdefault(budget_id_of(where.account), {})[where] = None
        return state


_beginning = itemgetter(AccountWindow._fields.index("window_start"))


def _is_window(book: BudgetBook, budget: Budget, emitted: Snapshot) -> bool:
    """Whether the window last told of is still one of the budget's: its period may have changed."""
    window = book.window_of(budget, emitted.window_start)
    return window is not None and window.start == emitted.window_start
