"""The decision cache: remembers admissions, so that a subject's next decision is quick. Pure.

While no budget changes and no window or raise ends, only spend can change a decision, and
only by reaching a limit. So the cache keeps the limits, and the time for which they hold.
"""

from collections.abc import Hashable, Iterable
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import Enforcement
from spendmeter.domain.matching import Account, BudgetBook, Subject
from spendmeter_gateway.spend.tracker import Limit, SpendTracker

# When full, clear it: an LRU costs more than deciding again.
MAX_REMEMBERED = 50_000


class _Clear(NamedTuple):
    """One decision that admitted."""

    edition: int
    """Of the book."""
    since: datetime | None
    until: datetime | None
    limits: tuple[Limit, ...]


class AdmissionCache:
    """Remembers admissions. The caller holds the lock under which budgets and spend change."""

    def __init__(self) -> None:
        self._clear: dict[Hashable, _Clear] = {}

    def admits(self, subject: Subject, book: BudgetBook, spend: SpendTracker, now: datetime) -> bool:
        """Whether `decide` is sure to admit the subject. If not, call it."""
        clear = self._clear.get(book.subject_key(subject))
        if clear is None or clear.edition != book.edition:
            return False
        if clear.since is not None and now < clear.since:
            return False
        if clear.until is not None and now >= clear.until:
            return False
        return spend.is_below(clear.limits)

    def remember(
        self, subject: Subject, book: BudgetBook, accounts: Iterable[Account], now: datetime
    ) -> None:
        """Note that `decide` has just admitted the subject, which falls under these accounts.

        Call it only if nothing but time and spend could change the decision.
        """
        starts, ends, limits = [], [], []
        for account in accounts:
            budget = account.budget
            if not budget.refuses:
                continue
            window = book.present_window(budget, now)
            if window is None or budget.unpriced == "block" or budget.enforcement is Enforcement.STRICT:
                return
            starts.append(window.start)
            if window.end is not None:
                ends.append(window.end)
            ends += [raised.until for raised in budget.raises if now < raised.until]
            limits.append(Limit((account.name, window.start), int(budget.limit_at(now))))
        if len(self._clear) >= MAX_REMEMBERED:
            self._clear.clear()
        self._clear[book.subject_key(subject)] = _Clear(
            book.edition, max(starts, default=None), min(ends, default=None), tuple(limits)
        )
