"""Merging: the sum of the components of an account's window, its opening balance included. Pure.

History holds everything below the offsets of its vector; a source partition's component holds everything from
its `first_offset` on. So a component that ends below the vector is already in history, and one that begins at
it or later is added. A component that straddles the vector shows that the vector belongs to another opening:
then history waits. Whatever was reordered or repeated, nothing is counted twice; `is_whole` says whether
something is missing. Earlier incarnations of spend.usage are one more entry of the vector (`EARLIER`) without
a component.
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
    """The opening balances that one partition of spend.totals has announced as complete."""

    def __init__(self) -> None:
        self._balances: dict[str, Sequence[OpeningBalance]] = {}
        self._changed: set[str] = set()

    def restore(self, key: bytes, value: bytes) -> None:
        """Read the changelog's entry for that key."""
        _, kept = json.loads(value)
        self._balances[key[len(OPENING_BALANCE) :].decode()] = [read_balance(*fields) for fields in kept]

    def apply(self, closing: Total) -> bool:
        """Note that a budget's opening balances are complete; returns whether that is new."""
        known = self._balances.get(closing.account, ())
        kept = with_balance(known, OpeningBalance.of(closing))
        if kept is known:
            return False
        self._balances[closing.account] = kept
        self._changed.add(closing.account)
        return True

    def of(self, budget_id: str, window_start: datetime) -> OpeningBalance | None:
        """The opening balance of the window that begins then; None if it is not complete."""
        return balance_of(self._balances.get(budget_id, ()), window_start)

    def forget(self, book: BudgetBook) -> Iterator[str]:
        """Drop removed budgets; yields the keys of totals to remove."""
        for budget_id in [budget_id for budget_id in self._balances if book.get(budget_id) is None]:
            for balance in self._balances.pop(budget_id):
                yield total_key(budget_id, balance.window_start, HISTORY)
            self._changed.add(budget_id)

    def changes(self) -> Iterable[ChangelogEntry]:
        """The changelog entries for everything that changed since the last call."""
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
    """The sum of the source offsets accounted for: it only rises, and a replay yields the same."""
    is_whole: bool
    """Whether it includes all spend of the window up to the watermark."""
    opening: OpeningBalance | None
    """The opening balance that it rests on."""


def merge(
    components: Mapping[int | str, TotalComponent],
    held: OpeningBalance | None,
    whole: OpeningBalance | None,
    shape: str,
) -> Merged:
    """Add up the components of one account in one window, for a budget that now has that shape.

    `held` is the opening balance that the account's history component rests on. `whole`, if it is about this
    window, is that of all accounts of the budget: an account without a history component had spent nothing
    before.
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
    # Also if history has to wait: the account may have included it before. Of two openings at
    # the same offsets the one of the present shape is later.
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
    """The spend between two totals of a source; what history adds was spent earlier."""
    if total.source_partition == HISTORY:
        return 0
    continues = known is not None and known.first_offset == total.first_offset
    return total.spent_nanousd - (known.spent_nanousd if known and continues else 0)


def rest_on(state: AccountState, opening: OpeningBalance | None) -> None:
    """Let the account's state hold the opening balance, so that the stored state explains what was
    emitted.
    """
    if opening is not None and opening is not state.held:
        # It had no history component of its own, or one of an earlier opening, which is void.
        state.components[HISTORY] = TotalComponent(opening.offsets, NanoUsd(0), 0, 0)
        state.held = opening


def _latest(held: OpeningBalance | None, whole: OpeningBalance | None, shape: str) -> OpeningBalance | None:
    """The one of the two that the window rests on. An account's component comes before its budget's
    record.
    """
    if held is None or whole is None:
        return held or whole
    if (held.before, held.shape) == (whole.before, whole.shape):
        return held
    if held.rank == whole.rank:
        return whole if whole.shape == shape else held
    return held if held.rank > whole.rank else whole
