"""The windows in which events count, remembered for each subject from batch to batch. Pure."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import Account, BudgetBook
from spendmeter.domain.window import Window
from spendmeter.values.times import EPOCH
from spendmeter_stream.state import CounterKey, PartitionSum

# When full, clear it. So many need about 60 MB in each source partition.
MAX_REMEMBERED = 150_000

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class CountedWindow:
    """An account in a window, and whether this batch has changed it."""

    where: CounterKey
    budget: Budget
    window: Window
    tally: PartitionSum
    is_changed: bool = False


class _Found(NamedTuple):
    """The windows of a subject, for events from `start` to before `end`."""

    windows: Sequence[CountedWindow]
    start: datetime
    end: datetime


class CountedWindowCache:
    """Valid under one edition of a book, as long as no partition sum is dropped."""

    def __init__(self, book: BudgetBook, counted: Callable[[Account, Window, int], CountedWindow]) -> None:
        self._book = book
        self._edition = book.edition
        self._subject_of = book.event_subject_key
        self._counted_window = counted
        """Creates the counted window of an account, first met at that offset."""
        self._by_subject: dict[Hashable, _Found] = {}
        self._by_account: dict[tuple[str, datetime], CountedWindow] = {}

    def hold_for(self, book: BudgetBook) -> bool:
        """Whether the cache may serve another batch, under that book as it is now."""
        is_same = self._book is book and self._edition == book.edition
        return is_same and max(len(self._by_subject), len(self._by_account)) < MAX_REMEMBERED

    def of(self, event: UsageEvent, offset: int) -> Sequence[CountedWindow]:
        """The windows in which the event counts."""
        subject = self._subject_of(event)
        found = self._by_subject.get(subject)
        if found is not None and found.start <= event.occurred_at < found.end:
            return found.windows
        return self._find(subject, event, offset)

    def _find(self, subject: Hashable, event: UsageEvent, offset: int) -> Sequence[CountedWindow]:
        windows: list[CountedWindow] = []
        start, end, have_begun = EPOCH, _NEVER, True
        for account in self._book.accounts_in(event):
            window = self._book.window_of(account.budget, event.occurred_at)
            if window is None:
                have_begun = False
                continue
            start, end = max(start, window.start), min(end, window.end or _NEVER)
            windows.append(self._at(account, window, offset))
        if have_begun:
            self._by_subject[subject] = _Found(tuple(windows), start, end)
        return windows

    def with_flats(self, event: UsageEvent, offset: int) -> Sequence[CountedWindow]:
        """The event's windows of those budgets that count a flat amount for a request without a price."""
        windows: list[CountedWindow] = []
        for account in self._book.accounts_in(event):
            if account.budget.unpriced_flat_nanousd():
                window = self._book.window_of(account.budget, event.occurred_at)
                if window is not None:
                    windows.append(self._at(account, window, offset))
        return windows

    def _at(self, account: Account, window: Window, offset: int) -> CountedWindow:
        at = (account.name, window.start)
        counted = self._by_account.get(at)
        if counted is None:
            made = self._counted_window(account, window, offset)
            # Several values may share one window.
            counted = self._by_account.setdefault((made.where.account, window.start), made)
            self._by_account[at] = counted
        return counted
