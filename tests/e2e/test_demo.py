"""The demo, from nothing to nothing: what a newcomer sees first."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WITHIN_SECONDS = 300
SPENDMETER = [sys.executable, "-c", "from spendmeter.cli.main import main; main()"]

Told = dict[str, Any]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What `spendmeter demo --json` says, once, for every test here."""
    stack = tmp_path_factory.mktemp("demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPENDMETER_")}
    ended = subprocess.run(
        [*SPENDMETER, "demo", "--json", "--dir", str(stack)],
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return {**json.loads(ended.stdout), "stack": stack}


def test_the_proxy_the_stream_and_history_agree_to_the_nano_dollar(told: Told) -> None:
    spent = told["spent_nanousd"]

    assert spent["producer"] == spent["stream"] == spent["history"] == told["key_info_spend_nanousd"]
    served = [call for call in told["calls"] if call["status"] == 200]
    assert spent["history"] == sum(round(float(call["cost_usd"] or 0) * 1e9) for call in served)


def test_calls_are_served_until_the_budget_is_spent_and_then_refused_as_litellm_refuses(told: Told) -> None:
    *served, last = told["calls"]

    assert told["calls_served"] == len(served) > 5
    assert told["calls_refused"] == 1
    assert (last["status"], told["refusal"]["type"]) == (422, "budget_exceeded")
    assert told["refusal"]["message"].startswith("Budget has been exceeded!")
    assert ", Max budget: 0.001 (budget key:demo-" in told["refusal"]["message"]
    assert told["refusal"]["headers"]["x-should-retry"] == "false"
    assert told["spent_nanousd"]["history"] >= 1_000_000


def test_the_refusal_can_be_explained(told: Told) -> None:
    decision = told["decision"]

    assert decision["id"] == told["refusal"]["headers"]["x-spendmeter-decision"]
    assert round(float(decision["spent_usd"]) * 1e9) == told["spent_nanousd"]["producer"]


def test_the_warning_came_before_the_refusal(told: Told) -> None:
    assert 0.8 <= told["first_warning_at_fraction"] < 1


def test_a_model_without_a_price_is_flagged_and_not_free(told: Told) -> None:
    assert told["unpriced"]["model_group"] == "unpriced-experiment"
    assert int(told["unpriced"]["events"]) == 1


def test_a_raise_serves_again_and_a_deleted_key_opens_nothing(told: Told) -> None:
    assert 0 < told["readmitted_after_ms"] < 5_000
    assert told["deleted_key"]["status"] == 401


def test_latencies_are_those_of_real_events(told: Told) -> None:
    assert 0 < told["signal_latency_ms"]["p50"] <= told["signal_latency_ms"]["p99"]


def test_nothing_is_left_running(told: Told) -> None:
    stack: Path = told["stack"]
    ended = subprocess.run(
        [*SPENDMETER, "status", "--dir", str(stack)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 3
    assert "nothing runs" in ended.stdout
