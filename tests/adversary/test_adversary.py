"""A few hundred requests of anybody's, judged by the law; `make adversary` sends as many as it is told."""

from pathlib import Path

from tests.adversary.run import BATCH, run
from tests.adversary.stack import stack
from tests.adversary.world import world

SEED, REQUESTS = 20261130, 300


async def test_what_the_provider_billed_is_what_its_owner_was_charged(kafka: str, tmp_path: Path) -> None:
    said: list[str] = []
    with stack(kafka, tmp_path) as proxy:
        async with world(proxy, most=BATCH) as made:
            report = await run(made, seed=SEED, requests=REQUESTS, shrinks=1, say=said.append)

    assert report.total.requests >= REQUESTS
    assert report.total.calls > REQUESTS // 3
    assert report.is_clean, "\n".join([*said, *report.lines()])
