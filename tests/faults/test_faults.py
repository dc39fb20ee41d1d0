"""A fast, seeded selection of `make faults`: the same stack, traffic, oracle and faults, for a minute.

On three brokers, which let in only who shows a password over TLS, or a certificate.
"""

from pathlib import Path

from tests.faults.driver import Plan
from tests.faults.report import lines
from tests.faults.run import execute
from tests.faults.schedule import FAST, Kind

SEED = 20260727
EVENTS = 2_000
RATE = 30.0
# One of each way to fail; the proxy, slow to start, is only metered here. `make faults` kills it too.
KINDS = (
    Kind("kill", "stream"),
    Kind("kill", "clickhouse-sink"),
    Kind("kill", "clickhouse"),
    Kind("kill", "leader"),
    Kind("copies", "too few"),
    Kind("rotate password", "gateway"),
    Kind("kill muted", "gateway"),
    Kind("tear", "sink-clickhouse"),
    Kind("resend", "chunk"),
    Kind("poison", "usage"),
    Kind("disk", "unwritable"),
)


def test_nothing_is_lost_and_nothing_counted_twice_under_fire(tmp_path: Path) -> None:
    plan = Plan(
        SEED, len(KINDS), EVENTS, RATE, workers=1, nodes=3, settles_between=False, pace=FAST, kinds=KINDS
    )
    outcome = execute(plan, tmp_path / "stack")
    told = "\n".join(lines(outcome))
    print(told)
    assert outcome.is_clean, told
