"""Opening balances of a budget, and which of several a window rests on. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.total import Total

MAX_KEPT = 8
"""Of one budget: each but the last is of windows that a reset or another period has cut off."""


class OpeningBalance(NamedTuple):
    """Everything that history held below `before`, as a budget of that shape counts it."""

    before: dict[int, int]
    """Source partition: offset. Of one that is not named, nothing. EARLIER is of earlier incarnations."""
    shape: str
    window_start: datetime
    """Of a whole budget: no account has more in windows that begin here or later."""
    revision: int = 0
    """Of the budget when the balance was made."""

    @property
    def offsets(self) -> int:
        """How many source offsets it holds."""
        return sum(self.before.values())

    @property
    def rank(self) -> tuple[int, int]:
        """Of two, the later one has the higher: openings only move on, and so do revisions."""
        return self.offsets, self.revision

    @classmethod
    def of(cls, total: Total) -> "OpeningBalance":
        """What a total of history rests on."""
        before = {p: offset for p, offset in sorted((total.before or {}).items()) if offset}
        return cls(before, total.shape or "", total.window_start, total.revision)


def with_balance(known: Sequence[OpeningBalance], one: OpeningBalance) -> Sequence[OpeningBalance]:
    """The balances of a budget after one more; `known` itself where that is no news. Every reader's rule.

    They stand by the beginning of the windows that they are about: the later is also the newer.
    """
    for same in known:
        if (same.before, same.shape) == (one.before, one.shape):
            one = one._replace(
                window_start=min(same.window_start, one.window_start),
                revision=max(same.revision, one.revision),
            )
    if one in known or any(k.window_start <= one.window_start and k.rank > one.rank for k in known):
        return known
    others = [k for k in known if k.window_start < one.window_start or k.rank > one.rank]
    return sorted([*others, one], key=lambda k: (k.window_start, k.rank))[-MAX_KEPT:]


def balance_of(known: Sequence[OpeningBalance], window_start: datetime) -> OpeningBalance | None:
    """The one that a window rests on which begins then; None if there is none."""
    return next((one for one in reversed(known) if one.window_start <= window_start), None)
