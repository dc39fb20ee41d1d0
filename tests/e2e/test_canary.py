"""`spendmeter canary` on the real proxy: through refusal and readmission, and what is in its way."""

import asyncio
import json
import signal
import subprocess
import sys
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from spendmeter.cli.canary.model import CanaryFailure, CanaryPlan, DailyAllowance, FailedAt
from spendmeter.cli.canary.play import CanaryPlayer
from spendmeter.cli.canary.proxy import CanaryAnswer, CanaryProxy
from spendmeter.cli.main import main
from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter.values.dimensions import Dimension
from spendmeter_local.ports import LOOPBACK
from tests.builders import budget
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy

SPENDMETER = [sys.executable, "-c", "from spendmeter.cli.main import main; main()"]


class Cage:
    """A canary with a key and a budget of its own, beside the proxy."""

    def __init__(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proxy = proxy
        self.key = proxy.key(key_alias=f"canary-{uuid4().hex[:8]}")["key"]
        self.budget_id = f"canary-{uuid4().hex[:8]}"
        monkeypatch.setenv("SPENDMETER_CANARY_KEY", self.key)
        monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", proxy.settings.kafka_bootstrap)
        monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", proxy.settings.topic_prefix)

    def arguments(self, *more: str) -> list[str]:
        named = ["--url", self.proxy.url, "--model", "gpt-4o-mini", "--budget", self.budget_id]
        return ["canary", *named, "--json", *more]

    def once(self, *more: str) -> tuple[Result, dict[str, Any]]:
        ended = CliRunner().invoke(main, self.arguments("--once", *more))
        return ended, json.loads(ended.stdout) if ended.stdout else {}

    def player(self) -> CanaryPlayer:
        whose: dict[Dimension, str] = {"key": sha256(self.key.encode()).hexdigest()}
        plan = CanaryPlan(self.budget_id, whose, NanoUsd(10_000), WITHIN_SECONDS)
        proxy = CanaryProxy(self.proxy.url, self.key, "gpt-4o-mini")
        return CanaryPlayer(self.proxy.settings, plan, proxy, DailyAllowance(NanoUsd(10**9)), asyncio.Event())

    def found(self) -> Budget | None:
        async def read() -> Budget | None:
            async with connect(self.proxy.settings) as client:
                return (await client.budgets()).get(self.budget_id)

        return asyncio.run(read())


@pytest.fixture
def cage(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Cage:
    return Cage(proxy, monkeypatch)


def test_a_round_is_refused_at_its_limit_and_served_again_after_the_reset(cage: Cage) -> None:
    ended, first = cage.once()

    assert ended.exit_code == 0, ended.output
    assert (first["failed_at"], first["refused_below_limit"]) == (None, 0)
    assert first["refused_after_ms"] > 0
    assert first["readmitted_after_ms"] > 0
    assert first["cost_nanousd"] >= 10_000
    left = cage.found()
    assert left is not None
    assert (left.match, left.limit_nanousd) == ({"key": sha256(cage.key.encode()).hexdigest()}, 10_000)
    assert left.paused
    # The budget that a round leaves behind is the next one's.
    ended, second = cage.once("--limit-usd", "0.00002")
    assert ended.exit_code == 0, ended.output
    assert second["cost_nanousd"] >= 20_000


def test_sigterm_ends_it_and_leaves_the_budget_paused(cage: Cage) -> None:
    running = subprocess.Popen(
        [*SPENDMETER, *cage.arguments("--every", "3600")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["failed_at"] is None
        in_force = cage.found()
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=WITHIN_SECONDS)
    finally:
        running.kill()

    assert running.returncode == 0, said
    assert in_force is not None
    assert not in_force.paused
    left = cage.found()
    assert left is not None
    assert left.paused


@pytest.mark.parametrize(
    ("given", "failed_at", "fix"),
    [
        (["--url", f"http://{LOOPBACK}:1"], "proxy", "correct --url"),
        (["--model", "no-such-model"], "model", "name a --model of its /v1/models"),
        (["--model", "unpriced-experiment"], "price", "name a --model that LiteLLM has a price of"),
        (["--max-usd-per-day", "0.00001"], "daily_limit", "--max-usd-per-day"),
    ],
    ids=["proxy-away", "no-model", "no-price", "daily-limit"],
)
def test_a_round_that_cannot_go_on_says_where_and_how_to_mend_it(
    cage: Cage, given: list[str], failed_at: str, fix: str
) -> None:
    ended, found = cage.once(*given)

    assert ended.exit_code == 1, ended.output
    assert found["failed_at"] == failed_at
    assert fix in found["failure"]
    left = cage.found()
    assert left is not None
    assert left.paused


def test_what_the_gateway_counts_beyond_the_answers_is_a_wrong_refusal(
    cage: Cage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CanaryProxy, "_cost", lambda *_: NanoUsd(1))

    ended, found = cage.once()

    assert (ended.exit_code, found["failed_at"], found["refused_below_limit"]) == (1, "below_limit", 1)


@pytest.mark.parametrize(
    ("was_lost", "failed_at", "below_limit"), [(True, "proxy", 0), (False, "below_limit", 1)]
)
async def test_a_request_without_an_answer_may_be_billed_into_a_later_round(
    cage: Cage, monkeypatch: pytest.MonkeyPatch, was_lost: bool, failed_at: str, below_limit: int
) -> None:
    """The proxy hung; when it goes on, it serves what nobody waits for any more."""
    real, lost = CanaryProxy.complete, FailedAt.PROXY

    def loses(proxy: CanaryProxy) -> CanaryAnswer:
        raise CanaryFailure(lost, "timed out", may_be_billed=was_lost)

    def serves_what_was_lost(proxy: CanaryProxy) -> CanaryAnswer:
        real(proxy)
        monkeypatch.setattr(CanaryProxy, "complete", real)
        return real(proxy)

    player = cage.player()
    monkeypatch.setattr(CanaryProxy, "complete", loses)
    assert (await player.play()).failed_at == "proxy"
    monkeypatch.setattr(CanaryProxy, "complete", serves_what_was_lost)
    found = await player.play()
    await player.disarm()

    assert (found.failed_at, found.refused_below_limit) == (failed_at, below_limit), found


def test_what_is_served_past_the_limit_is_counted(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CanaryProxy, "_cost", lambda *_: NanoUsd(10_000))

    ended, found = cage.once()

    assert ended.exit_code == 0, ended.output
    # The last answer is the readmission.
    assert found["served_past_limit"] == found["cost_nanousd"] // 10_000 - 2 > 0


def test_a_deleted_key_is_named(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_CANARY_KEY", f"sk-{uuid4().hex}")

    ended, found = cage.once()

    assert ended.exit_code == 1
    assert found["failed_at"] == "key"
    assert "spendmeter key create" in found["failure"]


def test_kafka_that_is_away_is_named(cage: Cage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", f"{LOOPBACK}:1")

    ended, found = cage.once()

    assert ended.exit_code == 1
    assert (found["failed_at"], found["requests"]) == ("kafka", 0)


def test_another_budget_is_never_changed_and_one_that_refuses_is_named(cage: Cage) -> None:
    whose = {"key": sha256(cage.key.encode()).hexdigest()}
    foreign = budget(id=cage.budget_id, match={"model": "nothing"}, limit_nanousd=from_usd("5"))
    spent = budget(id=f"other-{cage.budget_id}", match=whose, limit_nanousd=1, period="lifetime")

    async def put(*budgets: Budget) -> None:
        async with connect(cage.proxy.settings) as client:
            await client.apply(budgets)

    asyncio.run(put(foreign))
    before = cage.found()
    ended, found = cage.once()
    assert (ended.exit_code, found["failed_at"], found["requests"]) == (1, "budget", 0)
    assert cage.found() == before

    asyncio.run(put(spent))
    ended, found = cage.once("--budget", f"{cage.budget_id}-2")
    assert (ended.exit_code, found["failed_at"]) == (1, "other_budget"), ended.output
    assert spent.id in found["failure"]
