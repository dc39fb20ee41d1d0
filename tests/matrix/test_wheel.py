"""The wheel beside LiteLLM, installed as an operator would, and the proxy started from wherever."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from spendmeter_local.probes import wait_until
from tests.matrix.environments import conflicts, install, installed, litellm_alone
from tests.matrix.gateways import README_LINE, running_gateway
from tests.matrix.versions import RELEASES, Release
from tests.patience import WITHIN_SECONDS

ROOT = Path(__file__).parents[2]
OLD_LINE = "producers.litellm_callback.spendmeter"
_IS_WHOLE = os.environ.get("SPENDMETER_MATRIX") == "all"
NEWEST = RELEASES[-1].version
BESIDE = [one for one in RELEASES if one.version == NEWEST or (_IS_WHOLE and one.version == "1.106.2")]
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello [[in=10 out=10]]"}]}


class Installed(NamedTuple):
    release: Release
    python: Path
    before: frozenset[str]
    """What was there before our wheel."""
    conflicts_before: frozenset[str]


@pytest.fixture(scope="module", params=BESIDE, ids=lambda release: release.version)
def beside(
    request: pytest.FixtureRequest, wheel_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    release: Release = request.param
    python = litellm_alone(release, tmp_path_factory.mktemp("beside") / "venv")
    before, there_were = installed(python), conflicts(python)
    install(python, wheel_file)
    return Installed(release, python, before, there_were)


def test_the_wheel_changes_nothing_of_litellms(beside: Installed) -> None:
    now = installed(beside.python)

    assert beside.before <= now
    assert {one.partition("==")[0].partition(" @")[0] for one in now - beside.before} >= {
        "spendmeter",
        "aiokafka",
    }
    # Of a release whose own requirements are not on the index any more, there were some.
    assert conflicts(beside.python) == beside.conflicts_before
    if not beside.release.overrides:
        assert beside.conflicts_before == frozenset()


@pytest.mark.parametrize("place", ["checkout", "others", "config"])
def test_the_proxy_starts_from_anywhere_and_counts_once(
    beside: Installed, place: str, kafka: str, tmp_path: Path
) -> None:
    """A checkout of ours, a folder with packages of names that ours had, and beside its configuration."""
    others = tmp_path / "others"
    for name in ("stream", "sinks"):
        (others / name).mkdir(parents=True)
        (others / name / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    cwd = {"checkout": ROOT, "others": others, "config": tmp_path}[place]
    line = OLD_LINE if place == "config" else README_LINE

    with running_gateway(beside.python, None, kafka, tmp_path, line, cwd=cwd) as gateway:
        key = gateway.key()
        alias = gateway.keys[key]["key_alias"]
        assert gateway.post(key, "/v1/chat/completions", CHAT).status_code == 200
        seqs: list[int] = []

        def are_there(events: int) -> bool:
            seqs[:] = [event["seq"] for event in gateway.events(alias)]
            return len(seqs) >= events

        assert wait_until(lambda: are_there(1), timeout_seconds=WITHIN_SECONDS)
        assert gateway.post(key, "/v1/chat/completions", CHAT).status_code == 200
        assert wait_until(lambda: are_there(2), timeout_seconds=WITHIN_SECONDS)
        assert gateway.metric("spendmeter_repeated_events_total") == 0

    assert seqs == [1, 2], "each once: a second copy of the callback would have recorded its own"
    assert ("is called `spendmeter_gateway.callback` now" in gateway.log.read_text()) == (line == OLD_LINE)
