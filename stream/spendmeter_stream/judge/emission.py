"""Emission: which change of an account deserves a signal, and which can wait. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import CLOSE_TO_LIMIT_SHARE, COALESCE_SHARE, State
from spendmeter.domain.thresholds import share_of, state_at
from spendmeter.domain.window import Window
from spendmeter_stream.judge.merging import Merged

# Far from the limit a signal may wait this long, or until COALESCE_SHARE of the limit has been spent since.
COALESCE_FOR = timedelta(seconds=1)


class Snapshot(NamedTuple):
    """The parts of a signal that decide whether the next one is emitted."""

    window_start: datetime
    revision: int
    version: int
    limit_nanousd: NanoUsd
    spent_nanousd: NanoUsd
    state: State
    threshold: float | None
    at: datetime
    opening: bool = False


def snapshot_of(merged: Merged, budget: Budget, window: Window, now: datetime) -> Snapshot:
    """The snapshot of an account whose components add up to `merged`."""
    spent, limit = merged.spent_nanousd, budget.limit_at(now)
    state, threshold = state_at(spent, limit, budget.warn_at)
    return Snapshot(
        window.start,
        budget.revision,
        merged.version,
        limit,
        spent,
        state,
        threshold,
        now,
        not merged.is_whole,
    )


def should_emit(current: Snapshot, emitted: Snapshot) -> bool:
    """Whether readers need a signal of the current snapshot after the emitted one."""
    if (current.window_start, current.revision) != (emitted.window_start, emitted.revision):
        return True
    if current.version < emitted.version:
        return False
    if current.limit_nanousd != emitted.limit_nanousd:
        # A raise ended.
        return True
    if current.opening != emitted.opening:
        return True
    if current.version == emitted.version:
        return False
    if current.state is not emitted.state or current.threshold != emitted.threshold:
        return True
    if current.spent_nanousd >= share_of(current.limit_nanousd, CLOSE_TO_LIMIT_SHARE):
        return True
    moved = abs(current.spent_nanousd - emitted.spent_nanousd)
    return moved >= share_of(current.limit_nanousd, COALESCE_SHARE) or current.at - emitted.at >= COALESCE_FOR
