"""Balances: adds rows of history up, one total per account, by the stream's own rule. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import HISTORY, Total
from spendmeter.domain.matching import MAX_REMEMBERED_SUBJECTS, BudgetBook
from spendmeter.domain.window import Window, window_of
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import from_unix_us, to_unix_us
from spendmeter_sinks.history.usage_rows import Flats, TimeRange, needed_dimensions, subject_from
from spendmeter_sinks.opening_balance.pending_backfills import BackfillRequest

# If clocks differ by less than this, nobody still enforces a window that is over for us.
CLOCKS_APART = timedelta(minutes=1)
A = TypeVar("A")
Row = tuple[int, int, int, int, A, tuple[Any, ...]]
"""Partition, offset, occurred_at and appended_at in µs, an amount, the values of the dimensions."""


class _Account:
    """An account of a budget that needs its balance, and the window of the last row."""

    __slots__ = ("due", "end_us", "flat_nanousd", "name", "start", "start_us")

    def __init__(self, name: str, due: BackfillRequest) -> None:
        self.name = name
        self.due = due
        self.flat_nanousd = due.budget.unpriced_flat_nanousd()
        self.start: datetime | None = None
        self.start_us, self.end_us = 1, 0


class _Sum:
    __slots__ = ("events", "spent_nanousd")

    def __init__(self) -> None:
        self.spent_nanousd = 0
        self.events = 0


class Balances:
    """Add every first copy in history within `span` and below `bounds`, in any order; then read `totals`."""

    def __init__(self, requests: Sequence[BackfillRequest], book: BudgetBook, now: datetime) -> None:
        self._book = book
        self._requests = {due.budget.id: due for due in requests}
        self._first = {due.budget.id: first_window(due, now).start for due in requests}
        self._sums: dict[tuple[str, str, datetime], _Sum] = {}
        self._remembered: dict[tuple[Any, ...], tuple[_Account, ...]] = {}
        self.dimensions: list[Dimension] = needed_dimensions(book)

    @property
    def span(self) -> TimeRange:
        """The moment from which rows are needed."""
        return TimeRange(min(self._first.values(), default=None), None)

    @property
    def bounds(self) -> dict[int, int]:
        """Source partition: the last offset up to which rows are needed."""
        bounds: dict[int, int] = {}
        for due in self._requests.values():
            for partition, offset in due.before.items():
                bounds[partition] = max(bounds.get(partition, -1), offset - 1)
        return bounds

    @property
    def has_flats(self) -> bool:
        """Whether `add_flats` is needed."""
        return any(due.budget.unpriced_flat_nanousd() for due in self._requests.values())

    def add(self, rows: Iterable[Row[int]]) -> None:
        """Add rows. An event that costs nothing belongs to no account."""
        for account, start, amount in self._placed(rows):
            if amount:
                self._add(account, start, amount, 1)

    def add_flats(self, rows: Iterable[Row[Flats]]) -> None:
        """Add the flat amounts of budgets that have one. `add` gets the same rows, too, if they
        have a cost.
        """
        for account, start, (flats, is_all) in self._placed(rows):
            if account.flat_nanousd:
                self._add(account, start, flats * account.flat_nanousd, is_all)

    def _add(self, account: _Account, start: datetime, nanousd: int, events: int) -> None:
        held = self._sums.setdefault((account.due.budget.id, account.name, start), _Sum())
        held.spent_nanousd += nanousd
        held.events += events

    def totals(self) -> Iterator[Total]:
        """One total for each account and window with spend in history."""
        for (budget_id, account, start), held in self._sums.items():
            yield _total(self._requests[budget_id], account, start, held)

    def closings(self) -> Iterator[Total]:
        """For each budget the record that closes its balances, for every partition of totals, after them."""
        for budget_id, due in self._requests.items():
            yield _total(due, budget_id, self._first[budget_id], _Sum())

    def _placed(self, rows: Iterable[Row[A]]) -> Iterator[tuple[_Account, datetime, A]]:
        for partition, offset, occurred_us, _, amount, values in rows:
            accounts = self._remembered.get(values)
            if accounts is None:
                accounts = self._remember(values)
            for account in accounts:
                if offset >= account.due.before.get(partition, 0):
                    continue
                if not account.start_us <= occurred_us < account.end_us:
                    self._enter(account, occurred_us)
                if account.start is not None:
                    yield account, account.start, amount

    def _remember(self, values: tuple[Any, ...]) -> tuple[_Account, ...]:
        if len(self._remembered) >= MAX_REMEMBERED_SUBJECTS:
            self._remembered.clear()
        self._remembered[values] = tuple(
            _Account(account.name, self._requests[account.budget.id])
            for account in self._book.accounts_of(subject_from(self.dimensions, values))
            if account.budget.id in self._requests
        )
        return self._remembered[values]

    def _enter(self, account: _Account, occurred_us: int) -> None:
        """Move an account to the window of that moment, or to none if that window does not matter."""
        window = self._book.window_of(account.due.budget, from_unix_us(occurred_us))
        if window is None:
            account.start, account.start_us, account.end_us = None, 1, 0
            return
        account.start = window.start if window.start >= self._first[account.due.budget.id] else None
        account.start_us = to_unix_us(window.start)
        account.end_us = to_unix_us(window.end) if window.end else 1 << 63


def first_window(due: BackfillRequest, now: datetime) -> Window:
    """The first window that still matters; a budget that begins later has none before its start."""
    budget = due.budget
    window = window_of(budget, max(now - CLOCKS_APART, budget.starts_at or now - CLOCKS_APART))
    assert window is not None, "a budget has a window from its beginning on"
    return window


def _total(due: BackfillRequest, account: str, start: datetime, held: _Sum) -> Total:
    return Total(
        account=account,
        window_start=start,
        source_partition=HISTORY,
        spent_nanousd=NanoUsd(held.spent_nanousd),
        events=held.events,
        first_offset=0,
        last_offset=sum(due.before.values()),
        before=due.before,
        shape=due.shape,
        revision=due.budget.revision,
        incarnation=due.incarnation,
    )
