"""Losses: sequence numbers that are missing even after everything in flight has arrived."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from spendmeter_sinks.history.dead_letters import DeadLetterScan
from spendmeter_sinks.reconcile.history import Conflict, History, ProducerHistory
from spendmeter_sinks.reconcile.sequences import Range, in_both, without

# A gateway resends a chunk until each partition has acknowledged its part. For this long a
# later part may be in Kafka while an earlier one is not.
SETTLE_SECONDS = 5.0

Gaps = Mapping[str, list[Range]]
PassAll = Callable[[], Awaitable[DeadLetterScan]]
"""Returns the dead letters once history has everything that was in Kafka at the call."""


@dataclass(frozen=True, slots=True)
class Losses:
    producers: int
    lost: Gaps
    conflicts: list[Conflict]


async def find_losses(
    history: History, letters: DeadLetterScan, pass_all: PassAll, settle_seconds: float
) -> Losses:
    """Every gap below a producer's highest seq that stays for `settle_seconds` while history catches up."""
    recorded = await asyncio.to_thread(history.recorded)
    missing = await _missing(history, recorded, letters)
    deadline = asyncio.get_running_loop().time() + settle_seconds
    while missing:
        rest = deadline - asyncio.get_running_loop().time()
        letters = await pass_all()
        missing = still_missing(missing, await _missing(history, recorded, letters))
        if rest <= 0:
            break
        await asyncio.sleep(min(rest, settle_seconds / 5))
    repeated = [one.producer_id for one in recorded if one.rows > one.seqs]
    conflicts = await asyncio.to_thread(history.conflicts, repeated) if repeated else []
    return Losses(len(recorded), missing, conflicts)


def still_missing(before: Gaps, now: Gaps) -> Gaps:
    """The gaps that are still missing; a gap that opened since is checked next time."""
    both = {producer: in_both(ranges, now.get(producer, [])) for producer, ranges in before.items()}
    return {producer: ranges for producer, ranges in both.items() if ranges}


async def _missing(history: History, recorded: list[ProducerHistory], letters: DeadLetterScan) -> Gaps:
    gappy = [one.producer_id for one in recorded if one.seqs < one.highest]
    found = await asyncio.to_thread(history.gaps, gappy) if gappy else {}
    left = {p: without(ranges, letters.seqs.get(p, ())) for p, ranges in found.items()}
    return {producer: ranges for producer, ranges in left.items() if ranges}
