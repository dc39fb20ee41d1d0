"""The ledger: which budgets still need an opening balance, as spend.openings tells. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.total import EARLIER, Opening
from spendmeter.domain.matching import BudgetBook


class BackfillRequest(NamedTuple):
    """An opening balance that is to be taken from history."""

    budget: Budget
    shape: str
    before: dict[int, int]
    """Every source partition: history holds what lies below this offset, the stream the rest. EARLIER is of
    earlier incarnations of spend.usage."""
    incarnation: str = ""
    """Of spend.usage, which these offsets are of."""


class PendingBackfills:
    """Follows spend.openings."""

    def __init__(self) -> None:
        self.incarnation = ""
        """Of spend.usage as it is now: openings of another one say nothing. Empty takes all."""
        self.earlier = 0
        """What history has of earlier ones, as an offset: each balance holds that, too."""
        self._openings: dict[str, Opening] = {}
        self._watched: set[str] = set()
        """Budgets that cannot have been removed and come back without our hearing of it."""

    def apply(self, key: str, opening: Opening | None) -> None:
        """Bring one record in; None removes."""
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
        """For each budget that lacks its balance what it waits for, as people read it."""
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
        """How many budgets lack theirs, those that the stream has not opened everywhere included."""
        unopened = sum(
            any(self._opening(f"{budget.id}|{book.shape_of(budget)}|{p}") is None for p in partitions)
            for budget in book
        )
        return unopened + len(self.due(book, partitions))

    def forget(self, budget_id: str) -> None:
        """The budget was removed: should it come back, it needs another opening balance."""
        self._openings.pop(closing_key(budget_id), None)

    def gone(self, book: BudgetBook) -> list[str]:
        """Budgets that are gone and of which the topic still says that they have their opening balance."""
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
        # One of a higher revision may have been removed and come back while nobody looked: once more, then.
        if closed.revision >= due.budget.revision:
            self._watched.add(due.budget.id)
        return due.budget.id in self._watched


def closing_key(budget_id: str) -> str:
    """The key under which spend.openings says that a budget has its opening balance."""
    return f"{budget_id}|history"


def closing_of(due: BackfillRequest) -> Opening:
    """What tells that the opening balance was taken."""
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
    """Whether history holds everything that is wanted: the sink has committed up to there.

    Of earlier incarnations that is what it has.
    """
    return all(
        partition == EARLIER or committed.get(partition, 0) >= offset
        for partition, offset in due.before.items()
    )
