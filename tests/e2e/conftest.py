"""The real LiteLLM proxy with the callback attached, on the real broker, before the fake upstream."""

import asyncio
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from spendmeter.topics.create import create_topics
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from tests.patience import WITHIN_SECONDS

from . import tardy

READY_WITHIN_SECONDS = 240
PRICE_BOOK = "prices:\n  - {model: no-such-model, valid_from: 2026-01-01T00:00:00Z, usd_per: {request: 1}}\n"
"""What the proxy starts with; a test that adds to it takes that out again."""
HOUSE_PRICE = """
  - provider: openai
    model: house-priced-*
    valid_from: 2026-01-01T00:00:00Z
    usd_per_million_tokens: {input: "0", output: "1"}
"""
TARDY = "tardy"
"""While this file exists beside the proxy's data, LiteLLM logs nothing."""


@dataclass
class Proxy:
    """A running proxy, and how to reach all that it touches."""

    url: str
    master_key: str
    metrics_url: str
    upstream_url: str
    settings: GatewaySettings
    log: Path
    price_book: Path

    def key(self, **given: object) -> dict[str, str]:
        """A new virtual key as /key/generate answers."""
        answer = httpx.post(
            f"{self.url}/key/generate",
            json=given,
            headers={"Authorization": f"Bearer {self.master_key}"},
            timeout=WITHIN_SECONDS,
        )
        assert answer.status_code == 200, answer.text
        made: dict[str, str] = answer.json()
        return made

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels."""
        lines = httpx.get(self.metrics_url, timeout=WITHIN_SECONDS).text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{"))
        )


@pytest.fixture(scope="session")
def proxy(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(kafka, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def strict(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with every way that a request can end, and callbacks of others beside ours: strict.yaml."""
    folder, data = Path(__file__).parent, tmp_path_factory.mktemp("strict")
    settings = {
        "PYTHONPATH": str(folder),
        "SPENDMETER_BUDGET_HEADERS": "true",
        "SPENDMETER_STRICT_WAIT_MS": "20000",
        tardy.ENVIRONMENT: str(data / TARDY),
    }
    with running_proxy(kafka, data, "--config", str(folder / "strict.yaml"), **settings) as proxy:
        proxy.price_book.write_text(PRICE_BOOK + HOUSE_PRICE)
        entries = "spendmeter_price_book_entries"
        assert wait_until(lambda: proxy.metric(entries) == 2, timeout_seconds=WITHIN_SECONDS)
        yield proxy


@contextmanager
def running_proxy(kafka: str, data: Path, *arguments: str, **settings_of_it: str) -> Iterator[Proxy]:
    """A proxy with topics of its own, started with these arguments and settings."""
    port, metrics_port, upstream_port = free_port(), free_port(), free_port()
    upstream_url, metrics_url = (
        f"http://{LOOPBACK}:{upstream_port}",
        f"http://{LOOPBACK}:{metrics_port}/metrics",
    )
    master_key = f"sk-{secrets.token_hex(8)}"
    settings = GatewaySettings(kafka_bootstrap=kafka, topic_prefix=f"t{uuid4().hex[:12]}.", partitions=2)
    asyncio.run(create_topics(settings))
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_UPSTREAM_URL": upstream_url,
        "SPENDMETER_MASTER_KEY": master_key,
        "SPENDMETER_METRICS_PORT": str(metrics_port),
        "SPENDMETER_COMPONENT": "proxy",
        "SPENDMETER_GATEWAY": "g1",
        "SPENDMETER_PRICEBOOK": str(data / "prices.yaml"),
        **settings_of_it,
    }
    price_book = data / "prices.yaml"
    price_book.write_text(PRICE_BOOK)
    log = data / "proxy.log"
    upstream = start_child(
        [sys.executable, "-m", "spendmeter_local.upstream", "--port", str(upstream_port)],
        log=data / "upstream.log",
        env=env,
    )
    process = start_child(
        [sys.executable, "-m", "spendmeter_local.proxy", "--port", str(port), *arguments], log=log, env=env
    )
    try:
        url = f"http://{LOOPBACK}:{port}"
        ready = wait_until(
            lambda: (
                process.poll() is not None
                or (says_ready(metrics_url) and http_answers(f"{url}/health/liveliness"))
            ),
            timeout_seconds=READY_WITHIN_SECONDS,
        )
        assert ready, log.read_text()[-4000:]
        assert process.poll() is None, log.read_text()[-4000:]
        yield Proxy(url, master_key, metrics_url, upstream_url, settings, log, price_book)
    finally:
        kill_child(process)
        kill_child(upstream)
