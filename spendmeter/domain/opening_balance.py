"""Opening balances of a budget, and the one that a window rests on. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.total import Total

MAX_KEPT = 8
"""Balances kept per budget: all but the last belong to windows that a reset or a new period has cut off."""


class OpeningBalance(NamedTuple):
    """Everything in history below `before`, as a budget of that shape counts it."""

    before: dict[int, int]
    """Offsets by source partition; nothing for a missing one. EARLIER stands for earlier incarnations."""
    shape: str
    window_start: datetime
    """For a whole budget: no account has more in windows that begin here or later."""
    revision: int = 0
    """The budget's revision when the balance was made."""

    @property
    def offsets(self) -> int:
        """The sum of the source offsets that it covers."""
        return sum(self.before.values())

    @property
    def rank(self) -> tuple[int, int]:
        """The later of two balances has the higher rank: offsets and revisions only rise."""
        return self.offsets, self.revision

    @classmethod
    def of(cls, total: Total) -> "OpeningBalance":
        """The balance of a total from history."""
        before = {p: offset for p, offset in sorted((total.before or {}).items()) if offset}
        return cls(before, total.shape or "", total.window_start, total.revision)


def with_balance(known: Sequence[OpeningBalance], one: OpeningBalance) -> Sequence[OpeningBalance]:
    """The balances of a budget after one more; `known` itself if nothing changed. The rule of every reader.

    They are ordered by the beginning of their windows: the later is also the newer.
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
    """The balance of the window that begins then; None if there is none."""
    return next((one for one in reversed(known) if one.window_start <= window_start), None)
