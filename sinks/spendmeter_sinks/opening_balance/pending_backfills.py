"""Pending backfills: the budgets that still need an opening balance, according to spend.openings. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.total import EARLIER, Opening
from spendmeter.domain.matching import BudgetBook


class BackfillRequest(NamedTuple):
    """An opening balance to add up from history."""

    budget: Budget
    shape: str
    before: dict[int, int]
    """For every source partition: history has what is below this offset, the stream the rest. EARLIER stands
    for earlier incarnations of spend.usage."""
    incarnation: str = ""
    """The incarnation of spend.usage that these offsets belong to."""


class PendingBackfills:
    """Follows spend.openings."""

    def __init__(self) -> None:
        self.incarnation = ""
        """The present one of spend.usage: openings of another one are ignored. Empty accepts all."""
        self.earlier = 0
        """How much history has of earlier incarnations, as an offset: each balance includes it."""
        self._openings: dict[str, Opening] = {}
        self._watched: set[str] = set()
        """Budgets that cannot have been removed and restored unnoticed."""

    def apply(self, key: str, opening: Opening | None) -> None:
        """Apply one record; None removes."""
        if opening is None:
            self._openings.pop(key, None)
        else:
            self._openings[key] = opening

    def due(self, book: BudgetBook, partitions: Sequence[int]) -> list[BackfillRequest]:
        """Every budget that the stream counts in all these partitions and that lacks its opening balance."""
        found = []
        for budget in book:
            shape = book.shape_of(budget)
            openings = [self._opening(f"{budget.id}|{shape}|{p}") for p in partitions]
            before = {o.source_partition: o.first_offset for o in openings if o is not None}
            if len(before) == len(partitions):
                vector = {int(p): offset for p, offset in before.items()}
                if self.earlier:
                    vector[EARLIER] = self.earlier
                due = BackfillRequest(budget, shape, vector, self.incarnation)
                if not self._is_closed(due):
                    found.append(due)
        return found

    def reasons(
        self, book: BudgetBook, partitions: Sequence[int], committed: Mapping[int, int]
    ) -> Iterator[tuple[str, str]]:
        """For each budget that lacks its balance, what it waits for, in a form for people."""
        for budget in book:
            shape = book.shape_of(budget)
            uncounted = [p for p in partitions if self._opening(f"{budget.id}|{shape}|{p}") is None]
            if uncounted:
                yield budget.id, f"no stream worker counts it in partitions {uncounted} of spend.usage yet"
        for due in self.due(book, partitions):
            behind = [
                f"[{p}] up to {committed.get(p, 'nothing')}, needed up to {offset}"
                for p, offset in sorted(due.before.items())
                if p != EARLIER and committed.get(p, 0) < offset
            ]
            yield due.budget.id, f"history holds spend.usage {', '.join(behind)}" if behind else "its turn"

    def waiting(self, book: BudgetBook, partitions: Sequence[int]) -> int:
        """How many budgets lack their balance, including those that the stream has not opened everywhere."""
        unopened = sum(
            any(self._opening(f"{budget.id}|{book.shape_of(budget)}|{p}") is None for p in partitions)
            for budget in book
        )
        return unopened + len(self.due(book, partitions))

    def forget(self, budget_id: str) -> None:
        """Note that the budget was removed: if it comes back, it needs another opening balance."""
        self._openings.pop(closing_key(budget_id), None)

    def gone(self, book: BudgetBook) -> list[str]:
        """Removed budgets that, according to the topic, still have their opening balance."""
        return [
            opening.budget_id
            for opening in self._openings.values()
            if opening.source_partition == "history" and book.get(opening.budget_id) is None
        ]

    def _opening(self, key: str) -> Opening | None:
        opening = self._openings.get(key)
        is_of_others = opening is not None and opening.incarnation not in ("", self.incarnation)
        return None if self.incarnation and is_of_others else opening

    def _is_closed(self, due: BackfillRequest) -> bool:
        closed = self._opening(closing_key(due.budget.id))
        if closed is None or (closed.shape, dict(closed.before)) != (due.shape, due.before):
            return False
        # A budget with a higher revision may have been removed and restored unnoticed, so do it again.
        if closed.revision >= due.budget.revision:
            self._watched.add(due.budget.id)
        return due.budget.id in self._watched


def closing_key(budget_id: str) -> str:
    """The key under which spend.openings says that a budget has its opening balance."""
    return f"{budget_id}|history"


def closing_of(due: BackfillRequest) -> Opening:
    """The record that says that the opening balance has been added up."""
    return Opening(
        budget_id=due.budget.id,
        shape=due.shape,
        source_partition="history",
        first_offset=sum(due.before.values()),
        before=due.before,
        revision=due.budget.revision,
        incarnation=due.incarnation,
    )


def is_covered(due: BackfillRequest, committed: Mapping[int, int]) -> bool:
    """Whether history holds everything that is needed: the sink has committed that far.

    For earlier incarnations, what history has is enough.
    """
    return all(
        partition == EARLIER or committed.get(partition, 0) >= offset
        for partition, offset in due.before.items()
    )
