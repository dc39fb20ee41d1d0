"""The whole stack against the fake upstream's own count: 2,000 mixed requests, to the nano-dollar.

`SPENDMETER_REQUESTS` chooses another number of requests (300 by default, to keep `make test` short).
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from spendmeter.runtime.endpoints import Endpoints, find_stack
from spendmeter_local.probes import wait_until

REQUESTS = int(os.environ.get("SPENDMETER_REQUESTS", "300"))
# Four workers of eight clients each.
CLIENTS = 4 * 8
WITHIN_SECONDS = 180
SEED = 20261122
SPENDMETER = [sys.executable, "-c", "from spendmeter.cli.main import main; main()"]

# USD per million tokens, from the providers' price lists: uncached input, cached input, output. Written
# here once more on purpose: the product takes them from elsewhere.
PRICES = {
    "gpt-4o-mini": ("0.15", "0.075", "0.60"),
    "gpt-4o": ("2.50", "1.25", "10.00"),
    "meta-llama/Llama-3.3-70B-Instruct": ("0.40", "0.40", "1.20"),
    "text-embedding-3-small": ("0.02", "0.02", "0"),
    "house-experiment-7b": ("0", "0", "0"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Endpoints]]:
    """`spendmeter up`, as a user would."""
    directory = tmp_path_factory.mktemp("exact")
    run("up", "--detach", "--workers", "2", "--dir", str(directory))
    try:
        yield directory, find_stack(directory)
    finally:
        run("down", "--dir", str(directory))


def run(*command: str) -> str:
    ended = subprocess.run([*SPENDMETER, *command], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def request(dice: random.Random) -> tuple[str, dict[str, Any]]:
    """A path and a body: chat of four models, plain or streamed, and embeddings."""
    tokens = f"[[in={dice.randint(50, 400)} out={dice.randint(10, 100)} cached={dice.choice([0, 0, 32])}]]"
    if dice.random() < 0.1:
        return "/v1/embeddings", {"model": "text-embedding-3-small", "input": f"to count {tokens}"}
    model = dice.choice(["gpt-4o-mini", "gpt-4o", "self-hosted-llama", "unpriced-experiment"])
    content = tokens if model != "self-hosted-llama" else tokens.replace("cached=32", "cached=0")
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    return "/v1/chat/completions", {**body, "stream": True} if dice.random() < 0.4 else body


async def send_all(endpoints: Endpoints) -> None:
    dice = random.Random(SEED)
    waiting = [request(dice) for _ in range(REQUESTS)]
    headers = {"Authorization": f"Bearer {endpoints.proxy_master_key}"}
    async with httpx.AsyncClient(base_url=endpoints.proxy_url, headers=headers, timeout=120) as http:

        async def client() -> None:
            while waiting:
                path, body = waiting.pop()
                answer = await http.post(path, json=body)
                assert answer.status_code == 200, answer.text

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


def implied_usd(served: dict[str, Any]) -> Decimal:
    """What the upstream's token counts cost at the prices above."""
    total = Decimal(0)
    for model, count in served["by_model"].items():
        uncached, cached, output = (Decimal(price) / 1_000_000 for price in PRICES[model])
        total += (count["input_tokens"] - count["cached_tokens"]) * uncached
        total += count["cached_tokens"] * cached + count["output_tokens"] * output
    return total


def test_history_is_what_the_upstream_served_to_the_nano_dollar(stack: tuple[Path, Endpoints]) -> None:
    directory, endpoints = stack
    asyncio.run(send_all(endpoints))
    served = httpx.get(f"{endpoints.upstream_url}/served", timeout=WITHIN_SECONDS).json()
    assert served["requests"] == REQUESTS

    def history() -> tuple[int, Decimal]:
        sql = "SELECT count() AS events, sum(cost_usd) AS usd FROM spend.usage FINAL"
        (row,) = json.loads(run("query", sql, "--json", "--dir", str(directory)))
        return int(row["events"]), Decimal(row["usd"])

    assert wait_until(lambda: history()[0] >= REQUESTS, timeout_seconds=WITHIN_SECONDS, every_seconds=1)
    assert history() == (REQUESTS, implied_usd(served))
    assert json.loads(run("reconcile", "--json", "--dir", str(directory)))["equal"] is True
