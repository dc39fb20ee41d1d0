"""The judge: merges totals per account, compares with the budget, and says what to tell. Pure.

One judge per partition of spend.totals. It derives everything from the totals it holds, so a
replay of totals yields signals that readers already have (same version) or that they ignore
(lower version), and alerts with ids that were seen before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from spendmeter.contract.alert import Alert, AlertKind, alert_id
from spendmeter.contract.budget import Budget
from spendmeter.contract.matching import BudgetBook, subject_in
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.total import HISTORY, Total
from spendmeter.contract.window import Window, window_of
from stream.changelog import ACCOUNT, AccountState, AccountWindow, Component, Entry
from stream.crossings import crossings, recovery, share
from stream.dues import Dues, next_change
from stream.forecast import burnt, exhausted_at
from stream.telling import Told, worth_telling

KEEP_CLOSED_WINDOWS = timedelta(days=7)


@dataclass
class Judgement:
    """What to publish, in this order: signals and alerts before entries, so that none is lost."""

    signals: list[Signal] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    """Accounts whose signal is to be removed."""
    alerts: list[Alert] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


class Judge:
    """The state of one partition of spend.totals."""

    def __init__(self) -> None:
        self.accounts: dict[AccountWindow, AccountState] = {}
        self._by_budget: dict[str, set[AccountWindow]] = {}
        self._told: dict[str, Told] = {}
        self._changed: set[AccountWindow] = set()
        """What spent more since it was last judged."""
        self._waiting: set[AccountWindow] = set()
        """What spent more since it was last told."""
        self._again: set[AccountWindow] = set()
        """What is to be judged though nothing was spent."""
        self._dues = Dues()
        """What is to be judged once its time has come."""

    @classmethod
    def restore(cls, entries: Iterable[tuple[bytes, bytes]]) -> "Judge":
        """The state as the changelog has it. Every account is judged again: readers know repeats."""
        judge = cls()
        for key, value in entries:
            where = AccountWindow.read(key[len(ACCOUNT) :])
            judge._keep(where, AccountState.read(value))
            judge._again.add(where)
        return judge

    def take(self, totals: Iterable[Total]) -> None:
        """Merge totals: per source the one with the highest last_offset stays. Order does not matter."""
        for total in totals:
            where = AccountWindow(total.account, total.window_start)
            state = self.accounts.get(where) or self._keep(where, AccountState())
            known = state.components.get(total.source_partition)
            if known is not None and known.last_offset >= total.last_offset:
                continue
            state.unburnt_nanousd += _newly_spent(total, known)
            state.components[total.source_partition] = Component(
                total.last_offset, total.spent_nanousd, total.events, total.first_offset
            )
            state.last_event_id = total.last_event_id or state.last_event_id
            self._changed.add(where)

    def budget_changed(self, budget_id: str) -> None:
        """Judge every account of the budget again: its limit, window or existence changed."""
        self._again |= self._by_budget.get(budget_id, set())

    def judge(self, book: BudgetBook, now: datetime) -> Judgement:
        """Say what the totals taken since the last call, and those still waiting, amount to."""
        judgement = Judgement()
        self._again.update(self._dues.take(now))
        written, news, again = self._changed, self._changed | self._waiting, self._again
        self._changed, self._waiting, self._again = set(), set(), set()
        for where in sorted(news | again):
            state = self.accounts.get(where)
            if state is not None and self._judge(where, state, where in news, book, now, judgement):
                written.add(where)
        judgement.entries += [Entry(ACCOUNT + w.suffix(), self.accounts[w].value()) for w in sorted(written)]
        return judgement

    def _judge(
        self,
        where: AccountWindow,
        state: AccountState,
        is_news: bool,
        book: BudgetBook,
        now: datetime,
        judgement: Judgement,
    ) -> bool:
        """Judge one account; returns whether what it has told changed."""
        told = self._told.get(where.account)
        budget = book.get(where.account.partition("|")[0])
        if budget is None:
            if told is not None:
                judgement.withdrawn.append(where.account)
                del self._told[where.account]
            return False
        window = window_of(budget, where.window_start)
        # A window of an earlier shape of the budget is history. One that has ended is over: a limit
        # that was lowered since, or a restart, makes nothing known of it anew but that it is over.
        if window is None or window.start != where.window_start:
            return self._end(where, state, budget, now, judgement)
        if not is_news and window.end is not None and window.end <= now:
            return self._end(where, state, budget, now, judgement)
        has_told = self._judge_window(where, state, budget, window, now, judgement)
        self._dues.put(where, next_change(budget, window, state.exceeded, now))
        return has_told

    def _judge_window(
        self,
        where: AccountWindow,
        state: AccountState,
        budget: Budget,
        window: Window,
        now: datetime,
        judgement: Judgement,
    ) -> bool:
        told = self._told.get(where.account)
        state.burn = burnt(state.burn, state.unburnt_nanousd, window, now)
        state.unburnt_nanousd = 0
        signal = _signal(where.account, state, budget, window, now)
        if told is not None and told.window_start > where.window_start and _is_window(budget, told):
            # The signal of a later window stays the account's last; a late crossing is still told.
            alerts = list(crossings(state, budget, signal))
            judgement.alerts += alerts
            return bool(alerts)
        if told is not None and not worth_telling(signal, told):
            # Also a signal that nothing has changed since comes here; it has nothing to wait for.
            if signal.version > told.version:
                self._waiting.add(where)
            return False
        self._told[where.account] = Told(
            window.start,
            signal.revision,
            signal.version,
            signal.limit_nanousd,
            signal.spent_nanousd,
            signal.state,
            signal.threshold,
            now,
        )
        judgement.signals.append(signal)
        alerts = list(crossings(state, budget, signal))
        judgement.alerts += alerts
        return bool(alerts)

    def _end(
        self, where: AccountWindow, state: AccountState, budget: Budget, now: datetime, judgement: Judgement
    ) -> bool:
        """Tell that an account whose last told state was exceeded has a new window; whether it was."""
        was_exceeded, state.exceeded = state.exceeded, False
        window = window_of(budget, now) if was_exceeded else None
        if window is not None:
            present = self.accounts.get(AccountWindow(where.account, window.start)) or AccountState()
            signal = _signal(where.account, present, budget, window, now)
            judgement.alerts += recovery(where.window_start, signal)
        return was_exceeded

    def expire(self, book: BudgetBook, now: datetime) -> Judgement:
        """Forget windows that closed long ago and budgets that are gone; their signals are withdrawn."""
        judgement = Judgement()
        for where in list(self.accounts):
            budget_id = where.account.partition("|")[0]
            budget = book.get(budget_id)
            window = window_of(budget, where.window_start) if budget else None
            if budget and window and (window.end is None or now < window.end + KEEP_CLOSED_WINDOWS):
                continue
            del self.accounts[where]
            self._changed.discard(where)
            self._by_budget[budget_id].discard(where)
            judgement.entries.append(Entry(ACCOUNT + where.suffix(), None))
            told = self._told.get(where.account)
            # Told by this judge, or by one before it that this one was restored from.
            if told is None or told.window_start == where.window_start:
                self._told.pop(where.account, None)
                judgement.withdrawn.append(where.account)
        return judgement

    def _keep(self, where: AccountWindow, state: AccountState) -> AccountState:
        self.accounts[where] = state
        self._by_budget.setdefault(where.account.partition("|")[0], set()).add(where)
        return state


def _is_window(budget: Budget, told: Told) -> bool:
    """Whether the window last told of is still one of the budget's: its period may have changed."""
    window = window_of(budget, told.window_start)
    return window is not None and window.start == told.window_start


def _newly_spent(total: Total, known: Component | None) -> int:
    """What was spent between two totals of a source; what history adds was spent before."""
    if total.source_partition == HISTORY:
        return 0
    continues = known is not None and known.first_offset == total.first_offset
    return total.spent_nanousd - (known.spent_nanousd if known and continues else 0)


def _signal(account: str, state: AccountState, budget: Budget, window: Window, now: datetime) -> Signal:
    spent, limit = state.spent_nanousd, budget.limit_at(now)
    reached = [fraction for fraction in budget.warn_at if spent >= share(limit, fraction)]
    exceeded = spent >= limit
    return Signal(
        budget_id=budget.id,
        account=account,
        subject=subject_in(account),
        window_start=window.start,
        window_end=window.end,
        limit_nanousd=limit,
        spent_nanousd=spent,
        state=State.EXCEEDED if exceeded else State.WARNING if reached else State.OK,
        threshold=1.0 if exceeded else max(reached, default=None),
        watermark=state.watermark(),
        revision=budget.revision,
        version=state.version,
        cause_event_id=state.last_event_id,
        forecast_exhausted_at=exhausted_at(state.burn, NanoUsd(limit - spent), window, now),
        emitted_at=now,
    )


def unpriced_alert(model: str, event_id: UUID, now: datetime) -> Alert:
    """Tell, once a day and model, that requests are served whose price nobody knows."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Alert(
        alert_id=alert_id(f"model={model}", day, AlertKind.UNPRICED, "day"),
        kind=AlertKind.UNPRICED,
        message=f"model {model} has no price: its requests count as 0 USD (first seen in event {event_id})",
        emitted_at=now,
    )
