"""A proxy of any release as its users start it, `litellm --config`, with our wheel and no more of ours."""

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition

from spendmeter.contract.topics import Topic
from spendmeter.topics.create import create_topics
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from tests.patience import WITHIN_SECONDS

BESIDE = Path(__file__).with_name("beside")
MASTER_KEY = "sk-" + secrets.token_hex(16)
READY_WITHIN_SECONDS = 240
README_LINE = "spendmeter_gateway.callback"
FILE_LINE = "spendmeter_callback.callback"

PRICES_NANOUSD = {
    "gpt-4o-mini": (150, 600),
    "claude-sonnet-4-5": (3_000, 15_000),
    "text-embedding-3-small": (20, 0),
}
"""Per token in and out, in the configuration, so that the price map of a release changes nothing."""


@dataclass
class Gateway:
    """A running proxy, and all that a test asks."""

    url: str
    upstream_url: str
    metrics_url: str
    settings: GatewaySettings
    log: Path
    keys_file: Path
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def key(self, **fields: Any) -> str:
        """A new key with these fields."""
        key = f"sk-{uuid4().hex}"
        self.set(key, **fields)
        return key

    def set(self, key: str, **fields: Any) -> None:
        """What is known of a key from now on."""
        self.keys[key] = {"key_alias": f"alias-{key[-6:]}", **fields}
        # Whole or not at all: the proxy reads it at any time.
        partial = self.keys_file.with_suffix(".new")
        partial.write_text(json.dumps(self.keys))
        partial.replace(self.keys_file)

    def post(self, key: str, path: str, body: dict[str, Any]) -> httpx.Response:
        """The answer, whole."""
        return httpx.post(
            f"{self.url}{path}", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=WITHIN_SECONDS
        )

    def served(self, since: int = 0) -> list[dict[str, Any]]:
        """What the model server has served or begun to serve."""
        answer = httpx.get(
            f"{self.upstream_url}/served/calls", params={"since": since}, timeout=WITHIN_SECONDS
        ).json()
        calls: list[dict[str, Any]] = answer["calls"]
        return calls

    def events(self, alias: str) -> list[dict[str, Any]]:
        """The usage events of one key that Kafka has by now."""
        return [event for event in asyncio.run(_read(self.settings)) if event.get("key_alias") == alias]

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels."""
        lines = httpx.get(self.metrics_url, timeout=WITHIN_SECONDS).text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )


@contextmanager
def running_gateway(
    python: Path,
    wheel: Path | None,
    kafka: str,
    data: Path,
    callback: str = README_LINE,
    cwd: Path | None = None,
) -> Iterator[Gateway]:
    """A proxy of the release that `python` has, with topics of its own.

    Args:
        wheel: our wheel unpacked, to be found before anything else; None where it is installed.
        cwd: where the proxy is started: Python then looks there first, as it does for `litellm` itself.
    """
    port, metrics_port, upstream_port = free_port(), free_port(), free_port()
    settings = GatewaySettings(kafka_bootstrap=kafka, topic_prefix=f"t{uuid4().hex[:12]}.", partitions=1)
    asyncio.run(create_topics(settings))
    gateway = Gateway(
        f"http://{LOOPBACK}:{port}",
        f"http://{LOOPBACK}:{upstream_port}",
        f"http://{LOOPBACK}:{metrics_port}/metrics",
        settings,
        data / "proxy.log",
        data / "keys.json",
    )
    gateway.keys_file.write_text("{}")
    config = write_config(data, gateway.upstream_url, callback)
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "MATRIX_KEYS": str(gateway.keys_file),
        "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_DATA_DIR": str(data / "outbox"),
        "SPENDMETER_METRICS_PORT": str(metrics_port),
        "SPENDMETER_GATEWAY": "g1",
    }
    if wheel is not None:
        env |= {"PYTHONPATH": str(wheel), "PYTHONSAFEPATH": "1"}
    upstream = start_child(
        [sys.executable, "-m", "spendmeter_local.upstream", "--port", str(upstream_port)],
        log=data / "upstream.log",
    )
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", LOOPBACK]
    proxy = start_child(
        [*command, "--port", str(port), "--telemetry", "False"], log=gateway.log, env=env, cwd=cwd
    )
    try:
        wait_until(
            lambda: (
                proxy.poll() is not None
                or (
                    http_answers(f"{gateway.upstream_url}/health")
                    and says_ready(gateway.metrics_url)
                    and http_answers(f"{gateway.url}/health/liveliness")
                )
            ),
            timeout_seconds=READY_WITHIN_SECONDS,
        )
        assert proxy.poll() is None, gateway.log.read_text()[-4000:]
        yield gateway
    finally:
        kill_child(proxy)
        kill_child(upstream)


def write_config(data: Path, upstream_url: str, callback: str) -> Path:
    """LiteLLM's configuration, and the modules beside it."""
    for file in BESIDE.glob("*.py"):
        shutil.copy(file, data)
    config = {
        "model_list": [_model(name, upstream_url) for name in PRICES_NANOUSD],
        "litellm_settings": {"callbacks": callback},
        "general_settings": {"custom_auth": "matrix_auth.user_api_key_auth"},
    }
    path = data / "litellm.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def _model(name: str, upstream_url: str) -> dict[str, Any]:
    into, out = PRICES_NANOUSD[name]
    is_claude = name.startswith("claude")
    return {
        "model_name": name,
        "litellm_params": {
            "model": f"{'anthropic' if is_claude else 'openai'}/{name}",
            "api_base": upstream_url if is_claude else f"{upstream_url}/v1",
            "api_key": "sk-upstream",
            "input_cost_per_token": into / 1e9,
            "output_cost_per_token": out / 1e9,
        },
    }


async def _read(settings: GatewaySettings) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partition = TopicPartition(settings.topic(Topic.USAGE), 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        await consumer.seek_to_beginning(partition)
        events: list[dict[str, Any]] = []
        while await consumer.position(partition) < end:
            found = await consumer.getmany(timeout_ms=1_000)
            events += [json.loads(record.value) for records in found.values() for record in records]
        return events
    finally:
        await consumer.stop()
