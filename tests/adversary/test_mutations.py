"""An adversary that cannot fail shows nothing: each guard of the gateway, once broken, must be found."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.adversary.case import Case, Control
from tests.adversary.markers import AFTER
from tests.adversary.mutations import MUTATIONS
from tests.adversary.stack import stack
from tests.adversary.world import world

CACHED = (("in", 1000), ("out", 20), ("cached", 500))
_VICTIMS = Control("fallbacks", '[{"model": "gpt-4o", "metadata": {"user_api_key_hash": "$VICTIM"}}]')
SLOW = (("delay_ms", 100), ("chunk_delay_ms", 50), ("chunks", 20), ("out", 40))

CASES = [
    Case("chat", "gpt-4o", owner="crowd", directive=CACHED),
    Case("chat", "failing", directive=(("in", 1000),), controls=(_VICTIMS,)),
    Case("chat", "gpt-4o,gpt-4o,gpt-4o", directive=(("in", 1000), ("out", 20))),
    Case("chat", "gpt-4o", owner="user"),
    Case("chat", "failing", owner="model_group"),
    Case("chat", "gpt-4o", marker=AFTER, directive=(("in", 1000), ("out", 20))),
    Case("gemini", "gem", owner="crowd", stream=True, reads="leaves", after_ms=400, directive=SLOW),
    Case("completions", "instruct", owner="crowd", stream=True, reads="leaves", after_ms=400, directive=SLOW),
    Case("messages", "gpt-4o-mini", owner="crowd", stream=True, reads="leaves", after_ms=400, directive=SLOW),
    Case("chat", "gpt-4o", directive=(("fault", "hang"),), controls=(Control("timeout", "0.3"),)),
    Case("chat", "gpt-4o", directive=(("in", 1000), ("usage", "costless")), stream=True),
    Case("chat", "gpt-4o", directive=(("in", 1000),), controls=(Control("input_cost_per_token", "0"),)),
    Case("chat", "gpt-4o", directive=(("in", 1000),), controls=(Control("no-log", "true"),)),
    Case("chat", "openai/gpt-4o", owner="model_group"),
    Case(
        "responses", "gpt-4o", directive=(("in", 1000),), controls=(Control("background", "true"),), polls=4
    ),
    Case("chat", "gpt-4o", words=40, stream=True, directive=(("out", 100), ("usage", "missing"))),
    Case("chat", "gem", words=40, directive=(("usage", "missing"),)),
    Case("completions", "instruct", words=40, stream=True, controls=(Control("stream_options", "{}"),)),
    Case("chat", "gpt-4o", words=600, directive=(("usage", "missing"),)),
]
"""A few that the generator makes too: what each mutation breaks is among them."""


def _found(kafka: str, data: Path, mutation: str) -> set[str]:
    async def send() -> set[str]:
        async with world(running, most=len(CASES)) as made:
            batch = await made.batch(CASES)
            return {
                f"{violation.kind}: {cases[0].route if len(cases) == 1 else ''} {violation.owner}"
                for violation, cases in batch.found
            }

    with stack(kafka, data, mutation=mutation) as running:
        return asyncio.run(send())


pytestmark = pytest.mark.skipif(
    "SPENDMETER_MUTATIONS" not in os.environ,
    reason="a proxy for each mutation, ten minutes in all: set SPENDMETER_MUTATIONS=1",
)


@pytest.fixture(scope="session")
def unbroken(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The kinds of breach without a mutation: none, or those that another test names."""
    return _found(kafka, tmp_path_factory.mktemp("unbroken"), "")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_adversary_finds_that(kafka: str, tmp_path: Path, mutation: str, unbroken: set[str]) -> None:
    assert _found(kafka, tmp_path, mutation) - unbroken, f"{mutation}: not found"


def test_the_gateway_as_it_is_breaks_no_law(unbroken: set[str]) -> None:
    assert not unbroken
