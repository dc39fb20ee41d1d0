"""Counting starts: the source offset from which each budget counts, in one source partition. Pure."""

from collections.abc import Iterator

from spendmeter.contract.budget import Budget
from spendmeter.contract.total import Opening
from spendmeter.domain.matching import BudgetBook
from spendmeter_stream.state import OPENING, ChangelogEntry, CountingStart


class CountingStarts:
    """One for each budget and shape, which says what the budget counts. A new shape is counted anew."""

    def __init__(self) -> None:
        self._openings: dict[str, CountingStart] = {}
        self._changes: list[ChangelogEntry] = []
        self._closed_for: tuple[BudgetBook, int] | None = None
        """The book, and its edition, whose removed budgets have no opening any more."""
        self._opened_for: tuple[BudgetBook, int] | None = None
        """The book, and its edition, whose budgets all have an opening."""

    def restore(self, name: str, opening: CountingStart) -> None:
        """Read the changelog's entry for that name."""
        self._openings[name] = opening

    def open(self, book: BudgetBook, budget: Budget, frontier: int) -> tuple[int, str]:
        """The offset from which the budget counts, and its shape; `frontier` if it opens now."""
        shape = book.shape_of(budget)
        name = f"{budget.id}|{shape}"
        opening = self._openings.get(name)
        if opening is None:
            opening = self._openings[name] = CountingStart(frontier)
            self._changes.append(ChangelogEntry(OPENING + name.encode(), opening.value()))
        return opening.offset, shape

    def open_all(self, book: BudgetBook, frontier: int) -> None:
        """Open every budget of the book that is not open, even if no event has matched it yet."""
        if self._opened_for != (book, book.edition):
            self._opened_for = (book, book.edition)
            for budget in book:
                self.open(book, budget, frontier)

    def has(self, budget_id: str, shape: str) -> bool:
        """Whether the budget is open in that shape."""
        return f"{budget_id}|{shape}" in self._openings

    def follow(self, book: BudgetBook) -> None:
        """Close the openings of budgets that were removed or now count something else.

        This includes a budget that is gone for a single batch: its sums lack what is folded meanwhile,
        but would claim it if the same budget came back to the same opening.
        """
        if self._closed_for == (book, book.edition):
            return
        self._closed_for = (book, book.edition)
        for name in list(self._openings):
            budget_id, _, shape = name.rpartition("|")
            known = book.get(budget_id)
            if known is None or book.shape_of(known) != shape:
                del self._openings[name]
                self._changes.append(ChangelogEntry(OPENING + name.encode(), None))

    def changes(self) -> list[ChangelogEntry]:
        """What has changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def entries(self) -> list[ChangelogEntry]:
        """All of them, as changelog entries."""
        return [
            ChangelogEntry(OPENING + n.encode(), opening.value()) for n, opening in self._openings.items()
        ]


def opening_records(
    entries: list[ChangelogEntry], partition: int, incarnation: str = ""
) -> Iterator[tuple[str, Opening | None]]:
    """The records of spend.openings for changed openings: keys and values; None removes."""
    for key, value in entries:
        budget_id, _, shape = key[len(OPENING) :].decode().rpartition("|")
        offset = CountingStart.read(value).offset if value is not None else 0
        opening = Opening(
            budget_id=budget_id,
            shape=shape,
            source_partition=partition,
            first_offset=offset,
            incarnation=incarnation,
        )
        yield opening.key(), opening if value is not None else None
