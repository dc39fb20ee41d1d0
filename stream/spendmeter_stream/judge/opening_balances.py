"""Takings: per budget, what was taken from history for all its accounts, window by window. Pure."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime

from spendmeter.contract.total import HISTORY, Total, total_key
from spendmeter.domain.matching import BudgetBook
from spendmeter_stream.state import TAKEN, Entry, Taken

# Of one budget: each but the last is of windows that a reset or another period has cut off.
MAX_KEPT = 8


class Takings:
    """As far as one partition of spend.totals has told."""

    def __init__(self) -> None:
        self._taken: dict[str, list[Taken]] = {}
        """By the beginning of the windows that they are about; the later is also the newer."""
        self._changed: set[str] = set()

    def restore(self, key: bytes, value: bytes) -> None:
        """Bring in what the changelog has under that key."""
        _, kept = json.loads(value)
        self._taken[key[len(TAKEN) :].decode()] = [Taken.from_fields(*fields) for fields in kept]

    def take(self, closing: Total) -> bool:
        """Bring in the word that a budget's opening balances were all told; returns whether it is news."""
        budget_id, taken = closing.account, Taken.of(closing)
        known = self._taken.get(budget_id, [])
        for same in known:
            if (same.before, same.shape) == (taken.before, taken.shape):
                taken = taken._replace(
                    window_start=min(same.window_start, taken.window_start),
                    revision=max(same.revision, taken.revision),
                )
        if taken in known or any(k.window_start <= taken.window_start and k.rank > taken.rank for k in known):
            return False
        others = [k for k in known if k.window_start < taken.window_start or k.rank > taken.rank]
        kept = sorted([*others, taken], key=lambda k: (k.window_start, k.rank))
        self._taken[budget_id] = kept[-MAX_KEPT:]
        self._changed.add(budget_id)
        return True

    def of(self, budget_id: str, window_start: datetime) -> Taken | None:
        """What was taken for the window that begins then; None if nobody has told."""
        for taken in reversed(self._taken.get(budget_id, [])):
            if taken.window_start <= window_start:
                return taken
        return None

    def forget(self, book: BudgetBook) -> Iterator[str]:
        """Drop what is about budgets that are gone; gives the keys of totals to remove."""
        for budget_id in [budget_id for budget_id in self._taken if book.get(budget_id) is None]:
            for taken in self._taken.pop(budget_id):
                yield total_key(budget_id, taken.window_start, HISTORY)
            self._changed.add(budget_id)

    def changes(self) -> Iterable[Entry]:
        """What is to be stored of what has changed since the last call."""
        for budget_id in sorted(self._changed):
            kept = self._taken.get(budget_id)
            key = TAKEN + budget_id.encode()
            if kept:
                fields = [max(k.offsets for k in kept), [k.fields() for k in kept]]
                yield Entry(key, json.dumps(fields, separators=(",", ":")).encode())
            else:
                yield Entry(key, None)
        self._changed.clear()
