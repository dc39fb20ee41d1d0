"""The real meter, judge and admission under a seeded scheduler: whatever fails, all agree in the end.

A failure names its seed; `SPENDMETER_SEED=… pytest tests/simulation/test_schedules.py` plays it again,
step by step. `SPENDMETER_SCHEDULES=10000` plays more of them.
"""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.checks import Violation
from tests.simulation.schedule import Schedule
from tests.simulation.workers import Parts

SCHEDULES = int(os.environ.get("SPENDMETER_SCHEDULES", "1000"))
SEED = os.environ.get("SPENDMETER_SEED")
# Half of the seeds are the same for ever, half change with the commit, so that the search goes on.
FIXED_BASE = 20_261_122_000_000
MUST_HAPPEN = (
    "Admit",
    "Denied",
    "WaitForAcknowledgement",
    "lost",
    "resent",
    "crash",
    "restart",
    "begins anew",
    "zombie",
    "gateway restarted",
    "roll",
    "forged",
    "copied",
    "outbox restored",
)


def _seeds() -> list[int]:
    if SEED is not None:
        return [int(SEED)]
    half = SCHEDULES // 2
    base = _commit() * 1_000_000
    return [FIXED_BASE + n for n in range(SCHEDULES - half)] + [base + n for n in range(half)]


def _commit() -> int:
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=8", "HEAD"]
    try:
        return int(subprocess.run(git, capture_output=True, text=True, check=True).stdout, 16)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0


def test_whatever_fails_everyone_agrees_to_the_nano_dollar() -> None:
    seen: Counter[str] = Counter()
    for seed in _seeds():
        schedule = Schedule(seed, Parts())
        try:
            schedule.run()
        except Violation as violation:
            pytest.fail(f"SPENDMETER_SEED={seed} plays it again: {violation}")
        seen += schedule.seen
    if SEED is None:
        assert [what for what in MUST_HAPPEN if not seen[what]] == []


def test_a_seed_plays_the_same_schedule_again() -> None:
    one, other = Schedule(FIXED_BASE, Parts()), Schedule(FIXED_BASE, Parts())
    one.run()
    other.run()
    assert one.broker.usage == other.broker.usage
    assert one.broker.changelogs == other.broker.changelogs
    assert one.broker.signals == other.broker.signals
    assert one.seen == other.seen
