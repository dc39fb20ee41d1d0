"""Looks that found nothing in a request's way, remembered, so that the subject's next one is short. Pure.

While no budget changes and no window or raise ends, only spend can make a decision another one, and
only by reaching a limit. So the limits are what is remembered, and for which stretch of time.
"""

from collections.abc import Hashable, Iterable
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.budget import Enforcement
from spendmeter.domain.matching import Account, BudgetBook, Subject
from spendmeter_gateway.spend.tracker import Limit, SpendTracker

# Then all are forgotten, because to keep the latest costs more than to look again.
MAX_REMEMBERED = 50_000


class _Clear(NamedTuple):
    """One look that led to an admission."""

    edition: int
    """Of the book."""
    since: datetime | None
    until: datetime | None
    limits: tuple[Limit, ...]


class AdmissionCache:
    """Remembers admissions. The caller holds the lock that budgets and spend change under."""

    def __init__(self) -> None:
        self._clear: dict[Hashable, _Clear] = {}

    def admits(self, subject: Subject, book: BudgetBook, spend: SpendTracker, now: datetime) -> bool:
        """Whether `decide` is sure to admit the subject. If not, it has to be asked."""
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
        """`decide` has just admitted the subject, which falls under these accounts.

        Only where nothing but time and spend could decide otherwise.
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
