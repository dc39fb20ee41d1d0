"""Takings: per budget, what was taken from history for all its accounts, window by window. Pure."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from spendmeter.contract.total import HISTORY, Total, total_key
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.opening_balance import OpeningBalance, balance_of, with_balance
from spendmeter_stream.state import OPENING_BALANCE, ChangelogEntry, balance_fields, read_balance


class OpeningBalances:
    """As far as one partition of spend.totals has told."""

    def __init__(self) -> None:
        self._balances: dict[str, Sequence[OpeningBalance]] = {}
        self._changed: set[str] = set()

    def restore(self, key: bytes, value: bytes) -> None:
        """Bring in what the changelog has under that key."""
        _, kept = json.loads(value)
        self._balances[key[len(OPENING_BALANCE) :].decode()] = [read_balance(*fields) for fields in kept]

    def apply(self, closing: Total) -> bool:
        """Bring in the word that a budget's opening balances were all told; returns whether it is news."""
        known = self._balances.get(closing.account, ())
        kept = with_balance(known, OpeningBalance.of(closing))
        if kept is known:
            return False
        self._balances[closing.account] = kept
        self._changed.add(closing.account)
        return True

    def of(self, budget_id: str, window_start: datetime) -> OpeningBalance | None:
        """What was taken for the window that begins then; None if nobody has told."""
        return balance_of(self._balances.get(budget_id, ()), window_start)

    def forget(self, book: BudgetBook) -> Iterator[str]:
        """Drop what is about budgets that are gone; gives the keys of totals to remove."""
        for budget_id in [budget_id for budget_id in self._balances if book.get(budget_id) is None]:
            for taken in self._balances.pop(budget_id):
                yield total_key(budget_id, taken.window_start, HISTORY)
            self._changed.add(budget_id)

    def changes(self) -> Iterable[ChangelogEntry]:
        """What is to be stored of what has changed since the last call."""
        for budget_id in sorted(self._changed):
            kept = self._balances.get(budget_id)
            key = OPENING_BALANCE + budget_id.encode()
            if kept:
                fields = [max(k.offsets for k in kept), [balance_fields(k) for k in kept]]
                yield ChangelogEntry(key, json.dumps(fields, separators=(",", ":")).encode())
            else:
                yield ChangelogEntry(key, None)
        self._changed.clear()
