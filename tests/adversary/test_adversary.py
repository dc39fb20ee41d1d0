"""A few hundred generated requests: for every owner, what the upstream billed is what was charged."""

import pytest

from tests.adversary.conftest import Adversary
from tests.adversary.run import run

REQUESTS = 200


@pytest.mark.parametrize("seed", [1])
def test_what_the_upstream_billed_is_what_its_owner_was_charged(adversary: Adversary, seed: int) -> None:
    adversary.run(adversary.world.rest())
    lines: list[str] = []
    report = adversary.run(run(adversary.world, seed=seed, requests=REQUESTS, shrinks=2, say=lines.append))
    assert report.is_clean, "\n".join(lines + report.lines())
