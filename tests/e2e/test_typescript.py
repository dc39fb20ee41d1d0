"""clients/typescript, built and tested by its own tools on the real proxy, page and stream."""

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.retry.policy import RetryPolicy, RetryState
from spendmeter.retry.refusals import STATUSES, BudgetRefusal, read_refusal
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.probes import wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.integration.console.conftest import serving
from tests.patience import WITHIN_SECONDS

from .conftest import Proxy

FOLDER = Path(__file__).parents[2] / "clients/typescript"
OLDEST_NODE = 20
TOOL_WITHIN_SECONDS = 600
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi [[in=1000 out=100]]"}]}
MAIN = "from spendmeter.cli.main import main; main()"
SPENT_KEYS = 5
MESSAGE = "Budget has been exceeded! Key=k1 Current cost: 0.00105, Max budget: 1e-03"


class SpentKey(NamedTuple):
    """A key whose own budget is spent."""

    key: str
    budget: str

    @property
    def raising(self) -> list[str]:
        """The command that raises the budget."""
        return [sys.executable, "-c", MAIN, "budget", "set", self.budget, "--limit-usd", "1000"]


def run(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=TOOL_WITHIN_SECONDS,
        check=False,
    )


def examples() -> dict[str, str]:
    """The code of the README by its name."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- example: (\w+) -->\n```ts\n(.*?)```", page, re.DOTALL))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which it is built, with the examples of the README beside its tests."""
    if shutil.which("npm") is None:
        pytest.skip("there is no Node.js (npm) on this machine")
    node = run("node", "--version", cwd=FOLDER).stdout.strip()
    if int(node.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"Node.js is {node}; the package is for {OLDEST_NODE} and newer")
    folder = tmp_path_factory.mktemp("typescript") / "package"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for name, code in examples().items():
        (folder / f"test/example-{name}.ts").write_text(code, encoding="utf-8")
    for command in (
        ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"),
        ("npm", "run", "build"),
    ):
        done = run(*command, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def spent(proxy: Proxy) -> list[SpentKey]:
    """Keys that are refused now."""
    keys = [proxy.key(key_alias=f"ts-{uuid4().hex[:8]}")["key"] for _ in range(SPENT_KEYS)]
    made = [SpentKey(key, f"ts-{uuid4().hex[:8]}") for key in keys]
    budgets = [
        Budget(
            id=one.budget,
            match={"key": sha256(one.key.encode()).hexdigest()},
            limit_nanousd=NanoUsd(1),
            period="lifetime",
            updated_at=datetime.now(UTC),
        )
        for one in made
    ]

    async def apply() -> None:
        async with connect(proxy.settings) as client:
            await client.apply(budgets)

    asyncio.run(apply())
    for one in made:
        assert wait_until(partial(is_refused, proxy, one.key), timeout_seconds=WITHIN_SECONDS)
    return made


def is_refused(proxy: Proxy, key: str) -> bool:
    answer = httpx.post(
        f"{proxy.url}/v1/chat/completions",
        json=CHAT,
        headers={"Authorization": f"Bearer {key}"},
        timeout=WITHIN_SECONDS,
    )
    return answer.status_code == 422


@pytest.fixture(scope="module")
def page(
    proxy: Proxy, clickhouse: str, spent: list[SpentKey], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The page's URL, once it shows each of the keys as spent."""
    data = tmp_path_factory.mktemp("stream")
    settings = SinkSettings(
        kafka_bootstrap=proxy.settings.kafka_bootstrap,
        topic_prefix=proxy.settings.topic_prefix,
        clickhouse_url=clickhouse,
        clickhouse_database=f"t{uuid4().hex[:12]}",
    )
    env = {**kafka_of(proxy), "SPENDMETER_DATA_DIR": str(data), "SPENDMETER_PARTITIONS": "2"}
    stream = start_child([sys.executable, "-m", "spendmeter_stream"], log=data / "stream.log", env=env)
    try:
        with serving(settings, tmp_path_factory.mktemp("page")) as site, site.client() as client:

            def shows(one: SpentKey) -> bool:
                answer = client.get("/v1/accounts", params={"budget": one.budget})
                return any(account["state"] == "exceeded" for account in answer.json()["accounts"])

            shown = wait_until(lambda: all(map(shows, spent)), timeout_seconds=WITHIN_SECONDS)
            assert shown, (data / "stream.log").read_text() + site.log.read_text()
            yield site.url
    finally:
        kill_child(stream)


def kafka_of(proxy: Proxy) -> dict[str, str]:
    return {
        "SPENDMETER_KAFKA_BOOTSTRAP": proxy.settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": proxy.settings.topic_prefix,
    }


def test_its_own_tests_pass_on_the_real_proxy_and_page(
    package: Path, proxy: Proxy, page: str, spent: list[SpentKey], tmp_path: Path
) -> None:
    cases = tmp_path / "cases.json"
    cases.write_text(json.dumps({"refusals": [*refusals()], "waits": [*waits()]}), encoding="utf-8")
    env = {
        **kafka_of(proxy),
        "SPENDMETER_TEST_CASES": str(cases),
        "SPENDMETER_TEST_SPENT": json.dumps(
            [{"key": one.key, "budget": one.budget, "raise": one.raising} for one in spent[:3]]
        ),
        "SPENDMETER_WEB_URL": page,
        "OPENAI_BASE_URL": f"{proxy.url}/v1",
    }

    tests = sorted(str(path) for path in (package / "dist/test").glob("*.test.js"))
    done = run("node", "--test", "--test-reporter=tap", *tests, cwd=package, env=env)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(?m)^# (?:skipped|todo|fail) (\d+)$", done.stdout) == ["0"] * 3, done.stdout


def test_the_examples_of_the_readme_run(
    package: Path, proxy: Proxy, page: str, spent: list[SpentKey]
) -> None:
    assert {*examples()} == {"openai", "call", "me"}
    waits_here, refused = spent[3:]

    def env(one: SpentKey) -> dict[str, str]:
        return {
            **os.environ,
            "OPENAI_BASE_URL": f"{proxy.url}/v1",
            "OPENAI_API_KEY": one.key,
            "SPENDMETER_WEB_URL": page,
        }

    left = run("node", "dist/test/example-me.js", cwd=package, env=env(refused))
    assert (left.returncode, left.stdout) == (0, f"{refused.budget}: spent, resets never\n"), left.stderr
    call = run("node", "dist/test/example-call.js", cwd=package, env=env(refused))
    assert (call.returncode, call.stdout[: len(refused.budget) + 10]) == (
        0,
        f"{refused.budget} is spent:",
    ), call.stderr
    # As it stands, but that nobody here waits for half a minute.
    code = package / "dist/test/example-openai.js"
    code.write_text(code.read_text().replace("pollSeconds: 30", "pollSeconds: 0.2"))
    waiting = subprocess.Popen(["node", code], env=env(waits_here), stdout=subprocess.PIPE, text=True)
    try:
        assert waiting.stdout is not None
        assert waiting.stdout.readline().startswith(f"{waits_here.budget}: 0.00021")
        assert run(*waits_here.raising, cwd=package, env=kafka_of(proxy)).returncode == 0
        said, _ = waiting.communicate(timeout=WITHIN_SECONDS)
    finally:
        waiting.kill()
    assert waiting.returncode == 0
    assert said.splitlines()[-1] != ""
    assert not said.splitlines()[-1].startswith(waits_here.budget)


def refusals() -> Iterator[dict[str, Any]]:
    """Answers of a gateway, and what the client for Python makes of them."""
    types = ("budget_exceeded", "budget_unverified", "budget_unpriced", "rate_limit_error", "api_error", "")
    messages = (MESSAGE, "Budget cannot be verified at the moment.", "max_tokens is too large", "", None, 7)
    headers: tuple[dict[str, str], ...] = (
        {},
        {"retry-after": "90", "x-spendmeter-budget": "key-day"},
        {"retry-after": "Wed, 02 Dec 2026 00:00:00 GMT"},
        {"retry-after": "1.5"},
    )
    chance = random.Random(47)
    for status, kind, message in itertools.product((*sorted(STATUSES), 200, 401, 500), types, messages):
        error = {"type": kind, "message": message}
        for body in (
            {"error": error},
            {"type": "error", "error": error},
            error,
            json.dumps({"error": error}),
        ):
            yield case(status, chance.choice(headers), body)
    odd_bodies: list[object] = [
        "not json",
        "[]",
        "null",
        "7",
        '{"error": "text"}',
        '{"error": []}',
        None,
        [],
        7,
        {},
    ]
    odd_types: list[object] = [None, 0, False, ["budget_exceeded"], 1]
    odd_bodies += [{"error": {"type": odd, "message": MESSAGE}} for odd in odd_types]
    for odd in odd_bodies:
        yield case(422, headers[1], odd)
    for figures in (
        "Current cost: 1, Max budget: 0",
        "current COST: 1.5E+3",
        "Max budget: .5",
        "Current cost: 1.",
    ):
        yield case(422, headers[1], {"error": {"type": "budget_exceeded", "message": figures}})


def case(status: int, headers: dict[str, str], body: object) -> dict[str, Any]:
    refusal = read_refusal(status, headers, body)
    return {"status": status, "headers": headers, "body": body, "refusal": refusal and in_camels(refusal)}


def in_camels(refusal: BudgetRefusal) -> dict[str, Any]:
    def number(value: object) -> float | None:
        return None if value is None else float(str(value))

    return {
        "message": refusal.message,
        "budget": refusal.budget,
        "spentUsd": number(refusal.spent_usd),
        "limitUsd": number(refusal.limit_usd),
        "retryAfterSeconds": refusal.retry_after_seconds,
    }


def waits() -> Iterator[dict[str, Any]]:
    """Calls that are refused again and again, and how long the client for Python waits each time."""
    chance = random.Random(47)
    for _ in range(300):
        policy = RetryPolicy(
            chance.choice((0.0, 10.0, 100.0, 3_600.0)),
            chance.choice((1, 2, 5, 1_000)),
            chance.choice((None, 0.25, 30.0, 60.0)),
        )
        state, at, refused = RetryState(policy), 1_000.0, []
        for _ in range(6):
            after = chance.choice((None, 0.0, 1.0, 45.0, 90.0, 4_000.0))
            refusal = BudgetRefusal("", None, None, None, after)
            waiting = state.refused(refusal, at, datetime.now(UTC))
            wait = None if waiting is None else waiting.wait_seconds
            refused.append({"retryAfterSeconds": after, "atSeconds": at, "waitSeconds": wait})
            at += (wait or 0.0) + chance.choice((0.0, 0.5, 7.25))
        bounds = asdict(policy)
        yield {
            "policy": {
                "maxWaitSeconds": bounds["max_wait_seconds"],
                "maxAttempts": bounds["max_attempts"],
                "pollSeconds": bounds["poll_seconds"],
            },
            "refused": refused,
        }
