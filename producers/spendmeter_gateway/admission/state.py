"""The gateway's state in memory: budgets, signals and own spend, shared by threads under one lock."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, format_usd
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import Subject
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.values.account import budget_id_of
from spendmeter.values.times import format_time
from spendmeter_gateway.admission.decide import ADMIT, Decision, DecisionContext, decide
from spendmeter_gateway.admission.decision_cache import AdmissionCache
from spendmeter_gateway.admission.post_routing import PostRoutingBudgets
from spendmeter_gateway.admission.reservation_manager import ReservationManager
from spendmeter_gateway.adoption import AdoptionIndex
from spendmeter_gateway.loops import Notifier
from spendmeter_gateway.outbox.kafka import ConsumerRecord
from spendmeter_gateway.outbox.sender import Acknowledged
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.believed_signals import BelievedSignals
from spendmeter_gateway.spend.charge_cache import ChargeCache
from spendmeter_gateway.spend.charges import charges_at_answer, charges_of
from spendmeter_gateway.spend.pending import Pending
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import NOTHING, Acknowledgement

PRUNE_EVERY_SECONDS = 10.0
# So few that a request waits for the lock well under a millisecond.
_PRUNED_AT_ONCE = 500
MAX_REMOVED_REMEMBERED = 10_000


class _Budgets(BudgetTopic):
    """The budgets; one lock covers changes and reads."""

    def __init__(self, settings: GatewaySettings, views: "GatewayState") -> None:
        self._views = views
        super().__init__(settings, views.budget_changed)

    def apply(self, record: ConsumerRecord) -> None:
        with self._views.lock:
            super().apply(record)
        self._views.strict.wake_all()
        self._views.notify()

    def enforce(self, budget_id: str, budget: Budget | None) -> None:
        """Put a budget in force, or remove it (None), before Kafka has it; Kafka's later records count."""
        with self._views.lock:
            known = self.book.get(budget_id)
            if budget is None:
                self.book.remove(budget_id)
            else:
                self.book.put(budget.model_copy(update={"revision": known.revision if known else 1}))
            self._views.budget_changed(budget_id, budget)
        self._views.strict.wake_all()
        self._views.notify()


class BudgetScope(Enum):
    """Which budgets judge: those known before routing, the others, or all of them."""

    BEFORE = "before"
    AFTER = "after"
    ALL = "all"


class BudgetHeadroom(NamedTuple):
    """How far an account is from its limit."""

    remaining_nanousd: NanoUsd
    """Negative once more than the limit is spent."""
    limit_nanousd: NanoUsd
    resets_at: datetime | None
    budget_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The form for clients."""
        headers = {
            "x-spendmeter-budget": self.budget_id,
            "x-spendmeter-budget-remaining-usd": format_usd(self.remaining_nanousd),
            "x-spendmeter-budget-limit-usd": format_usd(self.limit_nanousd),
        }
        if self.resets_at is not None:
            headers["x-spendmeter-budget-resets-at"] = format_time(self.resets_at)
        return headers


class GatewayState:
    """Budgets, signals and own spend. Any thread may call; do not hold `lock` during Kafka's I/O."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.lock = threading.RLock()
        self.notifier = Notifier()
        self.spend = SpendTracker()
        self.budgets = _Budgets(settings, self)
        self.signals = BelievedSignals(settings, self._apply_signal)
        self.strict = ReservationManager(settings, self.lock, self.spend)
        self.pending = Pending(settings.pending_max_seconds, self.lock, self.spend)
        self.routed = PostRoutingBudgets()
        self._owners = AdoptionIndex()
        self._admission_cache = AdmissionCache()
        self._charged = ChargeCache()
        self._policy = settings.policy
        self._removed: set[str] = set()

    @property
    def are_read(self) -> bool:
        """Whether every budget and signal that existed at the start is known."""
        return self.budgets.caught_up.is_set() and self.signals.caught_up.is_set()

    def admits(self, subject: Subject) -> bool:
        """Whether `decide` is sure to admit the subject before routing: a quick check of the cache."""
        with self.lock:
            return self._admission_cache.admits(subject, self.budgets.book, self.spend, datetime.now(UTC))

    def may_refuse(self, subject: Subject) -> bool:
        """Whether the subject falls under a budget that can refuse, however far it is from its limit."""
        with self.lock:
            accounts = self.budgets.book.accounts_of(subject)
            return any(account.budget.refuses for account in accounts)

    def decide(
        self,
        subject: Subject,
        is_unpriced: Callable[[], bool] = lambda: False,
        *,
        scope: BudgetScope = BudgetScope.BEFORE,
    ) -> Decision:
        """Judge a request or call by what is known now; `is_unpriced` is called only if a budget needs it.

        Until all budgets have been read, none is enforced, because it may be an old revision.
        """
        seconds = time.monotonic()
        are_read = self.budgets.caught_up.is_set()
        are_current = self._are_current(seconds)
        with self.lock:
            book, now = self.budgets.book, datetime.now(UTC)
            if scope is not BudgetScope.AFTER and self._admission_cache.admits(
                subject, book, self.spend, now
            ):
                return ADMIT
            accounts = book.accounts_of(subject) if are_read else ()
            if scope is BudgetScope.BEFORE:
                accounts = self.routed.before(accounts)
            elif scope is BudgetScope.AFTER:
                accounts = self.routed.after(accounts)
            unpriced = any(account.budget.unpriced == "block" for account in accounts) and is_unpriced()
            at = DecisionContext(now, seconds, are_read, are_current, unpriced)
            decision = decide(book, accounts, self.spend, at, self._policy)
            if (
                decision is ADMIT
                and are_read
                and scope is not BudgetScope.AFTER
                and self._policy.on_stale == "allow"
            ):
                self._admission_cache.remember(subject, book, accounts, now)
            return decision

    def _are_current(self, seconds: float) -> bool:
        if self._policy.on_stale == "allow":
            # Then it is not needed, and this is the hot path.
            return self.are_read
        # Neither is None once both are read; the loop's time is the monotonic clock's.
        answered = (self.budgets.last_answer or 0.0, self.signals.last_answer or 0.0)
        return self.are_read and seconds - min(answered) < self._policy.stale_after_seconds

    def count(self, event: UsageEvent, *, is_recorded: bool) -> bool:
        """Count an own event from now on; returns whether it must be sent at once.

        The caller has held the lock since before it was recorded.
        """
        now = datetime.now(UTC)
        if is_recorded:
            windows, costs_nanousd = self._charged.where(event, self.budgets.book, self.spend, now)
            # Another gateway may have sent an object's bill earlier, and a signal may already include it.
            is_doubtful = bool(event.object_id)
            return self.spend.record_in(
                event.seq, windows, costs_nanousd, time.monotonic(), is_doubtful=is_doubtful
            )
        if not event.object_id:
            self.spend.count_unplaced(charges_of(self.budgets.book, event, now))
        return False

    def answered(self, event: UsageEvent, begun_at: datetime) -> bool:
        """Count an own event that will be recorded, begun then; False if it cannot. The caller holds the
        lock.
        """
        charges = charges_at_answer(self.budgets.book, event, begun_at, datetime.now(UTC))
        return bool(charges) and self.pending.add(event, charges)

    def acknowledged(self, stored: Acknowledged, *, resent: bool) -> None:
        """Note that Kafka has stored an own event. Runs on the loop that reads signals."""
        self.signals.stored(stored.partition, stored.offset)
        at = Acknowledgement(stored.partition, stored.offset, time.monotonic(), resent)
        with self.lock:
            self.spend.acknowledge(stored.seq, at)
        self.notify()

    def budget_changed(self, budget_id: str, budget: Budget | None) -> None:
        """Note which budgets were removed (for `prune`), are judged after routing, or were adopted."""
        self.routed.put(budget_id, budget)
        self._owners.put(budget_id, is_there=budget is not None)
        if budget is not None:
            self._removed.discard(budget_id)
        elif len(self._removed) < MAX_REMOVED_REMEMBERED:
            self._removed.add(budget_id)

    def adopted_from(self, owner: str) -> list[Budget]:
        """The budgets in force that were adopted from an object of LiteLLM's."""
        with self.lock:
            found = [self.budgets.book.get(budget_id) for budget_id in self._owners.of(owner)]
        return [budget for budget in found if budget is not None]

    def enforce(self, budget_id: str, budget: Budget | None) -> None:
        """Put a budget in force, or remove it (None), while its record is on the way to Kafka."""
        self.budgets.enforce(budget_id, budget)

    async def all_read(self) -> None:
        """Return once every budget and signal that existed at the start is known."""
        await self.budgets.caught_up.wait()
        await self.signals.caught_up.wait()
        self.notify()

    def spent(self, account: str) -> NanoUsd | None:
        """The spend known for certain in the account's present window; None if nothing is known."""
        now = datetime.now(UTC)
        with self.lock:
            budget = self.budgets.book.get(budget_id_of(account))
            window = self.budgets.book.present_window(budget, now) if budget is not None else None
            known = NOTHING if window is None else self.spend.known(account, window.start)
        return None if known is NOTHING else NanoUsd(known.certain_nanousd)

    def tightest(self, subject: Subject) -> BudgetHeadroom | None:
        """The headroom of the request's account with the least left."""
        now = datetime.now(UTC)
        standings = []
        with self.lock:
            book = self.budgets.book
            for account in book.accounts_of(subject):
                window = book.present_window(account.budget, now)
                if window is not None:
                    spent = self.spend.known(account.name, window.start).certain_nanousd
                    limit = account.budget.limit_at(now)
                    standings.append(
                        BudgetHeadroom(NanoUsd(limit - spent), limit, window.end, account.budget.id)
                    )
        return min(standings, key=lambda one: one.remaining_nanousd, default=None)

    def notify(self) -> None:
        """Wake waiting requests. Until everything has been read, they wait for that alone."""
        if self.are_read:
            self.notifier.notify()

    async def prune(self) -> None:
        """Drop what ended, for ever."""
        while True:
            await asyncio.sleep(PRUNE_EVERY_SECONDS)
            self.pending.expire(time.monotonic())
            with self.lock:
                keys = self.spend.keys()
            for first in range(0, len(keys), _PRUNED_AT_ONCE):
                with self.lock:
                    self.spend.prune(
                        keys[first : first + _PRUNED_AT_ONCE], datetime.now(UTC), self._removed.__contains__
                    )
                await asyncio.sleep(0)

    def _apply_signal(self, _account: str, signal: Signal | None) -> None:
        # A removed signal needs no action: it leaves with its window, or with its removed budget.
        if signal is not None:
            with self.lock:
                self.spend.apply(signal, datetime.now(UTC))
                self.strict.wake([(signal.account, signal.window_start)])
            self.notify()
