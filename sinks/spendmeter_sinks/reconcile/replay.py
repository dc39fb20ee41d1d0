"""Replay: recounts history to find what each stream total should be, by the stream's own rule. Pure.

A component of a total covers exactly the source offsets from its `first_offset` to its
`last_offset` or, if the stream has read further without finding more, to the watermark.
If history holds events of an account without a component, one is still expected if
the budget was certainly in force for them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.total import HISTORY
from spendmeter.domain.matching import MAX_REMEMBERED_SUBJECTS, BudgetBook
from spendmeter.domain.window import Window
from spendmeter.values.times import from_unix_us, to_unix_us
from spendmeter_sinks.history.usage_rows import UNPRICED, A, Flats, Row, needed_dimensions, subject_from
from spendmeter_sinks.reconcile.scope import LeftOut, Scope
from spendmeter_sinks.reconcile.totals import ComparedWindow, Components, Version, by_partition, openings

NEVER = 1 << 63
OpeningBalanceOf = Callable[[ComparedWindow], Mapping[int, int] | None]


@dataclass(slots=True)
class ComparedComponent:
    """One component: its offsets, the stream's sum, and history's sum."""

    first_offset: int
    until_offset: int
    claimed: Version | None
    spent_nanousd: int = 0
    events: int = 0
    free_events: int = 0
    """Events that cost the account nothing: releases before decision 16 counted them, too."""

    @property
    def agrees(self) -> bool:
        if self.claimed is None:
            return self.events == 0
        if self.claimed.spent_nanousd != self.spent_nanousd:
            return False
        return self.events <= self.claimed.events <= self.events + self.free_events


class Differing(NamedTuple):
    """A component that does not agree."""

    where: ComparedWindow
    partition: int
    lane: ComparedComponent


@dataclass(frozen=True, slots=True)
class Balance:
    """The opening balance of one account: what history held below these offsets."""

    before: Mapping[int, int]
    lane: ComparedComponent


@dataclass(slots=True)
class Missing:
    """The spend in history of a window that no total includes, because the budget has no opening balance."""

    spent_nanousd: int = 0
    events: int = 0


class _Window:
    """An account window; its rows are skipped unless `compared`."""

    __slots__ = ("balance", "compared", "end_us", "lanes", "missing", "start_us", "sure_after_us", "where")

    def __init__(
        self, where: ComparedWindow, end: datetime | None, sure_after_us: int, compared: bool = True
    ) -> None:
        self.where = where
        self.compared = compared
        self.start_us = to_unix_us(where.window_start)
        self.end_us = to_unix_us(end) if end else NEVER
        self.sure_after_us = sure_after_us
        self.lanes: dict[int, ComparedComponent] = {}
        self.balance: Balance | None = None
        self.missing: Missing | None = None
        """None if the opening balance exists, or is not needed any more."""


class _Account:
    """An account, and the window of it that the last row fell into."""

    __slots__ = ("budget", "flat_nanousd", "name", "window")

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.budget = budget
        self.flat_nanousd = budget.unpriced_flat_nanousd()
        self.window: _Window | None = None


def has_flats(book: BudgetBook) -> bool:
    """Whether some budget counts a flat amount for unpriced requests, so that `add_flats` is needed."""
    return any(budget.unpriced_flat_nanousd() for budget in book)


class Replay:
    """Add every first copy up to `bounds()`, in any order, then read `windows`."""

    def __init__(
        self,
        scope: Scope,
        components: Components,
        watermark: Mapping[int, int],
        ends: Mapping[int, int],
        opened: OpeningBalanceOf | None = None,
        now: datetime | None = None,
    ) -> None:
        """`ends`: the ends of spend.usage once the components were known; nothing can include more.

        `opened`: the offsets below which the budget's opening balance covers a window. With it, every event
        in history up to the watermark must be in some total, in windows that are not over at `now`.
        """
        self._opened = opened
        self._now = now
        self.scope = scope
        self._watermark = watermark
        self._dimensions = needed_dimensions(scope.book)
        compared = {w: sources for w, sources in components.items() if scope.of_account(w) is None}
        self._openings = openings(compared)
        self._opened_by_history = {w for w, sources in compared.items() if HISTORY in sources}
        self._capped = {
            (w.budget_id, w.window_start, source)
            for w, sources in components.items()
            if scope.of_account(w) is LeftOut.REST
            for source in sources
        }
        """The account that adds up values without an account of their own."""
        self._remembered: dict[tuple[Any, ...], tuple[_Account, ...]] = {}
        self._accounts: dict[str, _Account] = {}
        self._windows: dict[ComparedWindow, _Window] = {}
        self.rows = 0
        for where, partition, version in by_partition(compared):
            budget = scope.book.get(where.budget_id)
            assert budget is not None, "only accounts of budgets in force are in scope"
            until = max(watermark.get(partition, -1), min(version.last_offset, ends.get(partition, 0) - 1))
            self._open(budget, where).lanes[partition] = ComparedComponent(
                version.first_offset, until, version
            )
        for where in self._opened_by_history:
            budget, version = scope.book.get(where.budget_id), compared[where][HISTORY]
            assert budget is not None, "only accounts of budgets in force are in scope"
            lane = ComparedComponent(0, version.last_offset, version)
            self._open(budget, where).balance = Balance(version.before or {}, lane)

    @property
    def balances(self) -> dict[ComparedWindow, ComparedComponent]:
        """Every compared opening balance; its offsets are those of all partitions, added up."""
        return {
            where: window.balance.lane for where, window in sorted(self._windows.items()) if window.balance
        }

    @property
    def windows(self) -> dict[ComparedWindow, dict[int, ComparedComponent]]:
        """Every compared account window with its components, by source partition."""
        return {where: window.lanes for where, window in self._windows.items() if window.lanes}

    @property
    def missing(self) -> dict[ComparedWindow, Missing]:
        """For every window that lacks its opening balance: the spend that this would hold, if any."""
        return {
            where: window.missing
            for where, window in sorted(self._windows.items())
            if window.missing is not None and (window.missing.events or window.missing.spent_nanousd)
        }

    def bounds(self) -> dict[int, int]:
        """Source partition: the last offset up to which history is needed."""
        bounds = dict(self._watermark)
        for lanes in self.windows.values():
            for partition, lane in lanes.items():
                bounds[partition] = max(bounds.get(partition, -1), lane.until_offset)
        for window in self._windows.values():
            for partition, offset in window.balance.before.items() if window.balance else ():
                bounds[partition] = max(bounds.get(partition, -1), offset - 1)
        return bounds

    @property
    def may_count_free_events(self) -> bool:
        """Whether some component has the right amount and too many events: `add_free` may explain it."""
        balances = (window.balance.lane for window in self._windows.values() if window.balance)
        return any(
            lane.claimed is not None
            and lane.claimed.spent_nanousd == lane.spent_nanousd
            and lane.claimed.events > lane.events
            for lane in (*balances, *(one for lanes in self.windows.values() for one in lanes.values()))
        )

    def differing(self) -> list[Differing]:
        """Every component that does not agree, by account, window and partition."""
        return [
            Differing(where, partition, lane)
            for where, lanes in sorted(self.windows.items())
            for partition, lane in sorted(lanes.items())
            if not lane.agrees
        ]

    def add(self, rows: Iterable[Row[int] | tuple[int, int, int, int, int, tuple[Any, ...]]]) -> None:
        """Add rows. An event that costs nothing belongs to no account."""
        for _, lane, amount in self._met(rows):
            lane.spent_nanousd += amount
            lane.events += 1

    def add_flats(
        self, rows: Iterable[Row[Flats] | tuple[int, int, int, int, Flats, tuple[Any, ...]]]
    ) -> None:
        """Add the flat amounts of budgets that have one. `add` gets the same rows, too, if they
        have a cost.
        """
        for account, lane, (flats, is_all) in self._met(rows, only_with_flats=True):
            lane.spent_nanousd += flats * account.flat_nanousd
            lane.events += is_all

    def add_free(self, rows: Iterable[Row[int] | tuple[int, int, int, int, int, tuple[Any, ...]]]) -> None:
        """Note rows at cost 0, after all others: FREE, or UNPRICED, which is free only for a budget
        without a flat amount."""
        for account, lane, amount in self._met(rows, is_counted=False):
            if isinstance(lane, ComparedComponent) and not (amount == UNPRICED and account.flat_nanousd):
                lane.free_events += 1

    def _met(
        self,
        rows: Iterable[Row[A] | tuple[int, int, int, int, A, tuple[Any, ...]]],
        only_with_flats: bool = False,
        is_counted: bool = True,
    ) -> Iterator[tuple[_Account, ComparedComponent | Missing, A]]:
        """Every component in which a row counts."""
        remembered = self._remembered
        for partition, offset, occurred_us, appended_us, amount, values in rows:
            if not amount:
                continue
            self.rows += is_counted and not only_with_flats
            accounts = remembered.get(values)
            if accounts is None:
                accounts = self._remember(values)
            for account in accounts:
                if only_with_flats and not account.flat_nanousd:
                    continue
                window = account.window
                if window is None or not window.start_us <= occurred_us < window.end_us:
                    window = self._enter(account, occurred_us)
                    if window is None:
                        continue
                if not window.compared:
                    continue
                balance = window.balance
                if balance is not None and offset < balance.before.get(partition, 0):
                    yield account, balance.lane, amount
                    continue
                lane = window.lanes.get(partition) or self._expect(window, partition, offset, appended_us)
                if lane is not None and (offset >= lane.first_offset or appended_us >= window.sure_after_us):
                    if offset <= lane.until_offset:
                        yield account, lane, amount
                    continue
                is_due = offset <= self._watermark.get(partition, -1) and not self._is_capped(
                    window, partition
                )
                if window.missing is not None and is_due:
                    yield account, window.missing, amount

    def _is_capped(self, window: _Window, partition: int) -> bool:
        """Whether the budget's accounts there are at their bound: then the stream need not have this one."""
        return (window.where.budget_id, window.where.window_start, partition) in self._capped

    def _expect(
        self, window: _Window, partition: int, offset: int, appended_us: int
    ) -> ComparedComponent | None:
        """A component that the stream lacks and should have."""
        until = self._watermark.get(partition, -1)
        if self._is_capped(window, partition):
            return None
        first = self._openings.get((window.where.budget_id, partition), NEVER)
        if offset > until or (offset < first and appended_us < window.sure_after_us):
            return None
        lane = window.lanes[partition] = ComparedComponent(first, until, None)
        return lane

    def _remember(self, values: tuple[Any, ...]) -> tuple[_Account, ...]:
        if len(self._remembered) >= MAX_REMEMBERED_SUBJECTS:
            self._remembered.clear()
            self._accounts.clear()
        found = []
        for account in self.scope.book.accounts_of(subject_from(self._dimensions, values)):
            known = self._accounts.get(account.name)
            if known is None:
                known = self._accounts[account.name] = _Account(account.name, account.budget)
            found.append(known)
        self._remembered[values] = tuple(found)
        return self._remembered[values]

    def _enter(self, account: _Account, occurred_us: int) -> _Window | None:
        held = self.scope.book.window_of(account.budget, from_unix_us(occurred_us))
        if held is None:
            return None
        where = ComparedWindow(account.name, held.start)
        window = self._windows.get(where)
        if window is None and self.scope.of_window(account.budget, held) is None:
            window = self._open(account.budget, where)
        if window is None:
            window = _Window(where, held.end, NEVER, compared=False)
        account.window = window
        return window

    def _open(self, budget: Budget, where: ComparedWindow) -> _Window:
        window = self._windows.get(where)
        if window is None:
            held = self.scope.book.window_of(budget, where.window_start)
            sure_after = self.scope.in_force_for_all_after(budget.id)
            # The opening balance, if there is one, covers what is below the first offsets.
            sure = sure_after is not None and where not in self._opened_by_history
            window = self._windows[where] = _Window(
                where,
                held.end if held else None,
                to_unix_us(sure_after) if sure and sure_after else NEVER,
            )
            self._owe(window, held)
        return window

    def _owe(self, window: _Window, held: Window | None) -> None:
        """The opening balance that the window needs, because nothing says that it is empty."""
        if self._opened is None or window.where in self._opened_by_history:
            return
        before = self._opened(window.where)
        if before is not None:
            # The budget's balances are complete: an account without one had spent nothing.
            window.balance = Balance(before, ComparedComponent(0, sum(before.values()), None))
        elif held is not None and not (held.end and self._now and held.end <= self._now):
            window.missing = Missing()
