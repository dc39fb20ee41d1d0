"""A simulation that cannot fail shows nothing: each guard, once broken, must be found."""

import pytest

from tests.simulation.checks import Violation
from tests.simulation.mutations import MUTATIONS
from tests.simulation.schedule import Schedule
from tests.simulation.workers import Parts

FOUND_WITHIN_SCHEDULES = 4_000


def _found_after(parts: Parts) -> int | None:
    for seed in range(FOUND_WITHIN_SCHEDULES):
        try:
            Schedule(seed, parts).run()
        except Violation:
            return seed + 1
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_simulation_finds_that(name: str) -> None:
    assert _found_after(MUTATIONS[name]) is not None, (
        f"{name}: not found in {FOUND_WITHIN_SCHEDULES} schedules"
    )
