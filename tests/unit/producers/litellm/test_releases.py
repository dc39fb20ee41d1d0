"""A release of LiteLLM that is known to be compromised: nothing of ours runs beside it."""

import subprocess
import sys

import pytest

from spendmeter_gateway.litellm.releases import COMPROMISED, refuse_compromised
from tests.patience import WITHIN_SECONDS


@pytest.mark.parametrize("release", COMPROMISED)
def test_it_is_refused_with_its_reason_in_one_sentence(
    release: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        refuse_compromised(release)

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"spendmeter cannot start beside LiteLLM {release}: {COMPROMISED[release]}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("release", ["1.82.6", "1.84.10", "1.106.2", "1.110.2", None])
def test_every_other_release_is_let_be(release: str | None) -> None:
    refuse_compromised(release)


def test_the_callback_does_not_start_beside_it() -> None:
    code = (
        "import importlib.metadata as metadata\n"
        "own = metadata.version\n"
        "metadata.version = lambda name: '1.107.0' if name == 'litellm' else own(name)\n"
        "import spendmeter_gateway.litellm.callback\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": "/usr/bin:/bin"},
    )

    assert ended.returncode == 2, ended.stderr
    assert "spendmeter cannot start beside LiteLLM 1.107.0: it was a compromised release" in ended.stderr
