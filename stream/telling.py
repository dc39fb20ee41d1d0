"""Telling: which change of an account is worth a signal, and which can wait. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from stream.crossings import share

# Far from the limit a signal may wait this long, or until this share of the limit has been spent since.
COALESCE_FOR = timedelta(seconds=1)
COALESCE_SHARE = 0.01
# From this share of the limit on, every change is sent.
CLOSE_TO_LIMIT_SHARE = 0.8


@dataclass(frozen=True)
class Told:
    """The last signal of an account, as far as the next one depends on it."""

    window_start: datetime
    revision: int
    version: int
    limit_nanousd: NanoUsd
    spent_nanousd: NanoUsd
    state: State
    threshold: float | None
    at: datetime
    opening: bool = False


def worth_telling(signal: Signal, told: Told) -> bool:
    """Whether readers gain by this signal after the last one."""
    if (signal.window_start, signal.revision) != (told.window_start, told.revision):
        return True
    if signal.version < told.version:
        return False
    if signal.limit_nanousd != told.limit_nanousd:
        # A raise has ended.
        return True
    if signal.opening != told.opening:
        return True
    if signal.version == told.version:
        return False
    if signal.state is not told.state or signal.threshold != told.threshold:
        return True
    if signal.spent_nanousd >= share(signal.limit_nanousd, CLOSE_TO_LIMIT_SHARE):
        return True
    moved = abs(signal.spent_nanousd - told.spent_nanousd)
    return moved >= share(signal.limit_nanousd, COALESCE_SHARE) or signal.emitted_at - told.at >= COALESCE_FOR
