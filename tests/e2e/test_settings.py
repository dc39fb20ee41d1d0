"""A proxy whose spendmeter settings are wrong does not start."""

import os
import subprocess
import sys
from pathlib import Path

CONFIG = """
model_list:
  - model_name: mock
    litellm_params: {model: openai/gpt-4o-mini, api_key: sk-none, mock_response: hello}
litellm_settings: {callbacks: spendmeter_gateway.callback}
"""


def test_every_problem_is_told_and_the_proxy_exits_with_2(tmp_path: Path) -> None:
    config = tmp_path / "litellm.yaml"
    config.write_text(CONFIG)
    wrong = {"SPENDMETER_ON_STALE": "maybe", "SPENDMETER_ACK_WAIT_MS": "-1"}
    done = subprocess.run(
        [Path(sys.executable).with_name("litellm"), "--config", config, "--port", "1"],
        env=os.environ
        | wrong
        | {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": "sk-1",
            "LITELLM_MODE": "PRODUCTION",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 2
    assert "SPENDMETER_ON_STALE" in done.stderr
    assert "SPENDMETER_ACK_WAIT_MS" in done.stderr
    assert "Traceback" not in done.stderr
