"""Openings: from which source offset on each budget counts, as far as one source partition goes. Pure."""

import json
from collections.abc import Iterable
from hashlib import blake2s

from spendmeter.contract.budget import Budget
from spendmeter.contract.matching import BudgetBook
from stream.changelog import OPENING, Entry, Opening

# Part of every tally's key: enough to tell the few shapes apart that one budget ever has.
_SHAPE_BYTES = 4


class Openings:
    """One for each budget and shape: what it counts. Another shape is counted anew."""

    def __init__(self) -> None:
        self._openings: dict[str, Opening] = {}
        self._changes: list[Entry] = []
        self._read: tuple[BudgetBook, int] | None = None
        """The book, and the edition of it, that all openings agree with."""
        self._replacers: dict[str, tuple[Budget, ...]] = {}
        self._shapes: dict[str, tuple[Budget, tuple[Budget, ...], str]] = {}

    def restore(self, name: str, opening: Opening) -> None:
        """Bring in what the changelog has under that name."""
        self._openings[name] = opening

    def open(self, budget: Budget, frontier: int) -> tuple[int, str]:
        """From which offset the budget counts, and in which shape; from `frontier` if it opens now."""
        shape = self._shape(budget)
        name = f"{budget.id}|{shape}"
        opening = self._openings.get(name)
        if opening is None:
            opening = self._openings[name] = Opening(frontier)
            self._changes.append(Entry(OPENING + name.encode(), opening.value()))
        return opening.offset, shape

    def has(self, budget_id: str, shape: str) -> bool:
        """Whether the budget is open in that shape."""
        return f"{budget_id}|{shape}" in self._openings

    def follow(self, book: BudgetBook) -> None:
        """Close the openings of budgets that are gone or count something else now.

        Also of one that is gone for a single batch only: what is folded meanwhile is missing from
        its tallies, which would claim it if the same budget came back to the same opening.
        """
        if self._read == (book, book.edition):
            return
        self._read = (book, book.edition)
        self._replacers = {}
        for budget in book:
            if budget.replaces is not None:
                others = self._replacers.get(budget.replaces, ())
                self._replacers[budget.replaces] = (*others, budget)
        for name in list(self._openings):
            budget_id, _, shape = name.rpartition("|")
            known = book.get(budget_id)
            if known is None or self._shape(known) != shape:
                del self._openings[name]
                self._changes.append(Entry(OPENING + name.encode(), None))

    def changes(self) -> list[Entry]:
        """What has changed since the last call."""
        changes, self._changes = self._changes, []
        return changes

    def _shape(self, budget: Budget) -> str:
        replacers = self._replacers.get(budget.id, ())
        known = self._shapes.get(budget.id)
        if known is None or known[0] is not budget or known[1] != replacers:
            known = self._shapes[budget.id] = (budget, replacers, shape_of(budget, replacers))
        return known[2]


def shape_of(budget: Budget, replacers: Iterable[Budget] = ()) -> str:
    """A digest of all that decides which events count where."""
    counts = budget.model_dump(mode="json", include={"match", "period", "timezone", "starts_at", "reset_at"})
    counts["replaced_for"] = sorted(sorted(replacer.match.items()) for replacer in replacers)
    return blake2s(json.dumps(counts, sort_keys=True).encode(), digest_size=_SHAPE_BYTES).hexdigest()
