"""Merging: what the parts of an account's window add up to, its opening balance among them. Pure.

History holds everything below the offsets of its vector, a source partition's part everything from its
`first_offset` on. So a part that ends below the vector is inside history, one that begins at it or later
adds, and one that straddles it shows that the vector is of another opening: then history waits. Whatever
was mixed up or repeated, nothing is counted twice; what is missing is said (`is_whole`).
Earlier incarnations of spend.usage are one more entry of the vector (`EARLIER`), which no part is of.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import EARLIER, HISTORY, Total, total_key
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.opening_balance import OpeningBalance, balance_of, with_balance
from spendmeter_stream.state import (
    OPENING_BALANCE,
    AccountState,
    ChangelogEntry,
    TotalComponent,
    balance_fields,
    read_balance,
)


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


class Merged(NamedTuple):
    spent_nanousd: NanoUsd
    watermark: dict[int, int]
    """Source partition: the last offset that is included."""
    version: int
    """The source offsets accounted for: it can only rise, and a replay yields the same."""
    is_whole: bool
    """Nothing that was spent in the window, up to the watermark, is missing."""
    opening: OpeningBalance | None
    """What it rests on."""


def merge(
    components: Mapping[int | str, TotalComponent],
    held: OpeningBalance | None,
    whole: OpeningBalance | None,
    shape: str,
) -> Merged:
    """Add up the parts of one account in one window, for a budget that now has that shape.

    `held` is what the account's part from history rests on; `whole`, if it is about this window, what was
    taken for all accounts of the budget: one without such a part had spent nothing before.
    """
    opening = _latest(held, whole, shape)
    before = opening.before if opening is not None else {}
    counted, adding, version = 0, 0, 0
    watermark: dict[int, int] = {}
    fits, straddles = True, False
    for partition, part in components.items():
        if not isinstance(partition, int):
            continue
        counted += part.spent_nanousd
        version += part.last_offset + 1
        watermark[partition] = part.last_offset
        opened = before.get(partition, 0)
        if part.first_offset >= opened:
            adding += part.spent_nanousd
            fits = fits and part.first_offset == opened and part.shape == shape
        elif part.last_offset >= opened:
            straddles = True
    if opening is None:
        return Merged(NanoUsd(counted), _in_order(watermark), version, False, None)
    # Also where history has to wait: it may have been part of the account before. Of two openings at
    # the same offsets the one of the present shape comes later.
    version += opening.offsets + 1 + (opening.shape == shape)
    if straddles:
        return Merged(NanoUsd(counted), _in_order(watermark), version, False, opening)
    if opening is held:
        adding += components[HISTORY].spent_nanousd
    for partition, offset in before.items():
        if partition == EARLIER:
            continue
        watermark[partition] = max(watermark.get(partition, -1), offset - 1)
    is_emitted = whole is not None and (whole.before, whole.shape) == (before, opening.shape)
    is_whole = is_emitted and opening.shape == shape and fits
    return Merged(NanoUsd(adding), _in_order(watermark), version, is_whole, opening)


def is_counted(components: Mapping[int | str, TotalComponent], shape: str) -> bool:
    """Whether the stream has counted anything of the account in that shape."""
    return any(part.shape == shape for partition, part in components.items() if partition != HISTORY)


def _in_order(watermark: dict[int, int]) -> dict[int, int]:
    return dict(sorted(watermark.items())) if len(watermark) > 1 else watermark


def newly_spent(total: Total, known: TotalComponent | None) -> int:
    """What was spent between two totals of a source; what history adds was spent before."""
    if total.source_partition == HISTORY:
        return 0
    continues = known is not None and known.first_offset == total.first_offset
    return total.spent_nanousd - (known.spent_nanousd if known and continues else 0)


def rest_on(state: AccountState, opening: OpeningBalance | None) -> None:
    """Have the account hold what it is told to rest on, so that its stored state says all that was told."""
    if opening is not None and opening is not state.held:
        # It had no part of its own; that of an earlier opening is void.
        state.components[HISTORY] = TotalComponent(opening.offsets, NanoUsd(0), 0, 0)
        state.held = opening


def _latest(held: OpeningBalance | None, whole: OpeningBalance | None, shape: str) -> OpeningBalance | None:
    """Which of the two the window rests on. An account's part comes before the word about its budget."""
    if held is None or whole is None:
        return held or whole
    if (held.before, held.shape) == (whole.before, whole.shape):
        return held
    if held.rank == whole.rank:
        return whole if whole.shape == shape else held
    return held if held.rank > whole.rank else whole
