"""Every budget and every account as Kafka has them now, and word of what has changed. On one loop."""

import asyncio
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from spendmeter.contract.budget import Budget
from spendmeter.contract.signal import Signal
from spendmeter.domain.window import Window
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.signals import SignalFeed
from spendmeter_console.live.standing import Standing, closest_first, standing_of, untouched
from spendmeter_console.viewer import ViewScope

log = logging.getLogger(__name__)

ORDER_FRESH_SECONDS = 0.5
"""How long an order of all accounts stands while they change: to sort 100,000 costs a tenth of a second."""
SWEEP_SECONDS = 1.0
BREATH = 500
"""Accounts that are worked on before other work has a turn."""
MAX_SELECTIONS = 32
ALL = ("all", "")
Followed = tuple[str, str]
"""What a viewer follows: everything, ("team", its id) or ("budget", its id)."""


class Selection:
    """Which accounts are wanted."""

    def __init__(self, scope: ViewScope, text: str = "", state: str = "", budget_id: str = "") -> None:
        self.scope, self.text, self.state, self.budget_id = scope, text.casefold(), state, budget_id
        self.key: Hashable = (scope, self.text, state, budget_id)

    def has(self, standing: Standing, names: Mapping[str, str]) -> bool:
        """Whether the account is among them. `names`: aliases of keys."""
        if not self.scope.has(standing.subject):
            return False
        if self.budget_id and standing.budget_id != self.budget_id:
            return False
        if self.state and standing.state != self.state:
            return False
        if not self.text:
            return True
        held = [
            standing.budget_id,
            *standing.subject.values(),
            names.get(standing.subject.get("key", ""), ""),
        ]
        return any(self.text in one.casefold() for one in held)


class Board:
    """Follows spend.budgets and spend.signals for as long as `running` lasts."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._topic = BudgetTopic(settings, self._on_budget)
        self._feed = SignalFeed(settings, self._on_signal)
        self._signals: dict[str, Signal] = {}
        self._of_budget: dict[str, set[str]] = defaultdict(set)
        self._standings: dict[str, Standing] = {}
        self._valid_until: dict[str, datetime | None] = {}
        """By budget: when its accounts must be computed again, at the end of a window or a raise."""
        self._editions: dict[Followed, int] = defaultdict(int)
        self._changed = asyncio.Event()
        self._selections: OrderedDict[Hashable, tuple[float, int, list[Standing]]] = OrderedDict()
        self.names: dict[str, str] = {}
        """Aliases of keys, as history has them."""
        self.caught_up = asyncio.Event()
        """Set once everything that was there at the start has been read."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read until the block ends."""
        works = [
            asyncio.create_task(work)
            for work in (self._topic.run(), self._feed.run(), self._sweep(), self._wait_caught_up())
        ]
        try:
            yield
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    @property
    def last_answer(self) -> float | None:
        """When Kafka last answered, in the loop's time; None before it first did."""
        budgets, signals = self._topic.last_answer, self._feed.last_answer
        return None if budgets is None or signals is None else min(budgets, signals)

    @property
    def silent_seconds(self) -> float | None:
        """How long Kafka has not answered; None before it first did."""
        answered = self.last_answer
        return None if answered is None else asyncio.get_running_loop().time() - answered

    def budgets(self, scope: ViewScope) -> list[Budget]:
        """The budgets in force that the viewer may see, by id."""
        return sorted(
            (budget for budget in self._topic.book if scope.has_budget(budget.match)),
            key=lambda one: one.id,
        )

    def budget(self, scope: ViewScope, budget_id: str) -> Budget | None:
        """One budget in force, None also where it is not the viewer's."""
        found = self._topic.book.get(budget_id)
        return found if found is not None and scope.has_budget(found.match) else None

    @property
    def budget_topic(self) -> BudgetTopic:
        """The reader of spend.budgets, for who writes on top of what it has read."""
        return self._topic

    def signer(self, budget_id: str) -> str:
        """By which key the budget in force is signed; empty where its author is a claim."""
        return self._topic.signers.get(budget_id, "")

    def standing(self, account: str) -> Standing | None:
        """How one account stands."""
        return self._standings.get(account)

    def accounts_of_subject(self, subject: object) -> list[Standing]:
        """How the accounts stand that a subject falls under; those that have spent nothing, too."""
        now, found = self._clock(), []
        for account in self._topic.book.accounts_of(subject):  # type: ignore[arg-type]
            standing = self._standings.get(account.name)
            window = self._window(account.budget, now)
            if standing is None and window is not None:
                empty = untouched(
                    account.budget.model_copy(update={"match": dict(account.subject)}), window, now
                )
                standing = empty and empty._replace(account=account.name)
            if standing is not None:
                found.append(standing)
        return sorted(found, key=closest_first)

    def select(self, selection: Selection) -> list[Standing]:
        """The wanted accounts, closest to their limit first."""
        return self._select(selection)[1]

    def _select(self, selection: Selection) -> tuple[int, list[Standing]]:
        """The accounts, and the edition that they are of: it may be one of a moment ago."""
        edition, now = self._editions[ALL], self._monotonic()
        known = self._selections.get(selection.key)
        if known is not None and (known[1] == edition or now - known[0] < ORDER_FRESH_SECONDS):
            return known[1:]
        if selection.key == Selection(ViewScope()).key:
            found = sorted(self._standings.values(), key=closest_first)
        else:
            # Of the edition that these are of, or what is of a moment ago would pass for new.
            edition, everything = self._select(Selection(ViewScope()))
            found = [one for one in everything if selection.has(one, self.names)]
        self._selections[selection.key] = (now, edition, found)
        self._selections.move_to_end(selection.key)
        if len(self._selections) > MAX_SELECTIONS:
            self._selections.popitem(last=False)
        return edition, found

    def edition(self, scope: ViewScope, budget_id: str = "") -> int:
        """Rises with every change of what the viewer may see, or of one budget."""
        if budget_id:
            return self._editions.get(("budget", budget_id), 0)
        if scope.teams is None:
            return self._editions[ALL]
        return sum(self._editions.get(("team", team), 0) for team in scope.teams)

    async def wait_changed(self, scope: ViewScope, known: int, budget_id: str = "") -> int:
        """Return once the edition is another than `known`."""
        while (edition := self.edition(scope, budget_id)) == known:
            await self._changed.wait()
        return edition

    def _on_signal(self, account: str, signal: Signal | None) -> None:
        known = self._signals.get(account)
        if signal is None:
            if known is not None:
                del self._signals[account]
                self._of_budget[known.budget_id].discard(account)
                self._restore_or_drop(account, known.budget_id)
                self._note(known.budget_id, known.subject)
            return
        if known is not None and signal.order() < known.order():
            return
        self._signals[account] = signal
        self._of_budget[signal.budget_id].add(account)
        self._update(signal)
        self._note(signal.budget_id, signal.subject)

    def _on_budget(self, budget_id: str, budget: Budget | None) -> None:
        self._valid_until.pop(budget_id, None)
        # Whoever has changed a budget shall see it: no order of a moment ago.
        self._selections.clear()
        if budget is None:
            for account in [a for a, s in self._standings.items() if s.budget_id == budget_id]:
                del self._standings[account]
        else:
            self._update_all(budget)
        self._note(budget_id, {} if budget is None else budget.match)

    def _update_all(self, budget: Budget) -> None:
        self._begin(budget, self._clock())
        for account in self._of_budget.get(budget.id, ()):
            self._update(self._signals[account])

    def _begin(self, budget: Budget, now: datetime) -> None:
        """Note until when its accounts stay as they are; its only account begins with nothing spent."""
        window = self._window(budget, now)
        self._valid_until[budget.id] = _valid_until(budget, window, now)
        if window is not None and (empty := untouched(budget, window, now)) is not None:
            self._standings[empty.account] = empty

    def _update(self, signal: Signal) -> None:
        budget = self._topic.book.get(signal.budget_id)
        now = self._clock()
        window = self._window(budget, now) if budget is not None else None
        if budget is None or window is None:
            self._standings.pop(signal.account, None)
        else:
            self._standings[signal.account] = standing_of(signal, budget, window, now)

    def _restore_or_drop(self, account: str, budget_id: str) -> None:
        self._standings.pop(account, None)
        budget = self._topic.book.get(budget_id)
        if budget is not None and (window := self._window(budget, self._clock())) is not None:
            empty = untouched(budget, window, self._clock())
            if empty is not None and empty.account == account:
                self._standings[account] = empty

    def _window(self, budget: Budget, now: datetime) -> Window | None:
        return self._topic.book.present_window(budget, now)

    def _note(self, budget_id: str, subject: Mapping[Any, str]) -> None:
        self._editions[ALL] += 1
        self._editions["budget", budget_id] += 1
        if "team" in subject:
            self._editions["team", subject["team"]] += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sweep(self) -> None:
        """Windows and raises end without a message: their accounts are computed anew."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._clock()
            for budget_id, until in list(self._valid_until.items()):
                budget = self._topic.book.get(budget_id)
                if until is None or until > now or budget is None:
                    continue
                self._begin(budget, now)
                for number, account in enumerate(list(self._of_budget.get(budget_id, ()))):
                    if account in self._signals:
                        self._update(self._signals[account])
                    if number % BREATH == 0:
                        await asyncio.sleep(0)
                self._note(budget_id, budget.match)
                for team in {s.subject["team"] for s in self._of(budget_id) if "team" in s.subject}:
                    self._editions["team", team] += 1

    def _of(self, budget_id: str) -> list[Signal]:
        return [self._signals[a] for a in self._of_budget.get(budget_id, ()) if a in self._signals]

    async def _wait_caught_up(self) -> None:
        with suppress(RuntimeError):
            await self._topic.wait_caught_up()
            await self._feed.wait_caught_up()
            self.caught_up.set()


def _valid_until(budget: Budget, window: Window | None, now: datetime) -> datetime | None:
    """Until when its accounts stay as they are."""
    ends = [raised.until for raised in budget.raises if raised.until > now]
    if window is None and budget.starts_at is not None and budget.starts_at > now:
        ends.append(budget.starts_at)
    if window is not None and window.end is not None:
        ends.append(window.end)
    return min(ends, default=None)
