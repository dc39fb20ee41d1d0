"""The real proxy with the adversary's configuration before the counting upstream, on a real broker."""

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from spendmeter.topics.create import create_topics
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, kafka_answers, says_ready, wait_until
from tests.adversary import mutations

READY_WITHIN_SECONDS = 240
ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("litellm.yaml")


class NotReady(Exception):
    """A process did not start; the message is the end of its log."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything is."""

    url: str
    master_key: str
    metrics_url: str
    upstream_url: str
    settings: GatewaySettings
    log: Path


@contextmanager
def broker(data: Path) -> Iterator[str]:
    """A real Kafka node; its bootstrap servers."""
    fetch_jars()
    controller_port = free_port()
    node = Broker(data, free_port([controller_port]), controller_port)
    node.prepare()
    with _running(node.command(), data / "kafka.log", {}, lambda: kafka_answers(node.bootstrap)):
        yield node.bootstrap


@contextmanager
def stack(kafka: str, data: Path, *, mutation: str = "") -> Iterator[Stack]:
    """A proxy with topics of its own; `mutation` breaks one function of the gateway in it."""
    port, metrics_port, upstream_port = free_port(), free_port(), free_port()
    url, upstream_url = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{upstream_port}"
    metrics_url = f"http://{LOOPBACK}:{metrics_port}/metrics"
    master_key = f"sk-{secrets.token_hex(8)}"
    settings = GatewaySettings(kafka_bootstrap=kafka, topic_prefix=f"a{uuid4().hex[:12]}.", partitions=2)
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
        # A request that would wait for others is decided soon, so that a batch ends.
        "SPENDMETER_STRICT_WAIT_MS": "3000",
        "SPENDMETER_PENDING_MAX_SECONDS": "3",
        "ADVERSARY_GEMINI_URL": f"{upstream_url}/v1beta",
        "ADVERSARY_MCP_URL": f"{upstream_url}/mcp",
        "OPENAI_API_BASE": f"http://api.openai.com:{upstream_port}",
        "OPENAI_API_KEY": "sk-upstream",
        "ANTHROPIC_API_BASE": f"http://api.anthropic.com:{upstream_port}",
        "ANTHROPIC_API_KEY": "sk-upstream",
        "GEMINI_API_BASE": upstream_url,
        "GEMINI_API_KEY": "sk-upstream",
        "PYTHONPATH": str(ROOT),
        mutations.ENVIRONMENT: mutation,
    }
    upstream = [sys.executable, "-m", "spendmeter_local.upstream", "--port", str(upstream_port)]
    proxy = [sys.executable, "-m", "tests.adversary.proxy", "--port", str(port), "--config", str(CONFIG)]
    log = data / "proxy.log"

    def is_ready() -> bool:
        return says_ready(metrics_url) and http_answers(f"{url}/health/liveliness")

    with ExitStack() as running:
        running.enter_context(
            _running(upstream, data / "upstream.log", env, lambda: http_answers(f"{upstream_url}/health"))
        )
        running.enter_context(_running(proxy, log, env, is_ready))
        yield Stack(url, master_key, metrics_url, upstream_url, settings, log)


@contextmanager
def _running(
    command: Sequence[str], log: Path, env: dict[str, str], is_ready: Callable[[], bool]
) -> Iterator[None]:
    process = start_child(command, log=log, env=env)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(), timeout_seconds=READY_WITHIN_SECONDS)
        if process.poll() is not None or not is_ready():
            raise NotReady(log.read_text(errors="replace")[-4000:])
        yield
    finally:
        kill_child(process)
