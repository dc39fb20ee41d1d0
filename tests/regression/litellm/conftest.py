"""One stack for every issue, on the real broker and the real engine of the session."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from spendmeter.topics.create import create_topics
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from tests.regression.litellm.stack import START_WITHIN_SECONDS, Proxy, Stack, Upstream

PARTITIONS = 2


@pytest.fixture(scope="session")
def stack(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two proxies, stream, sink and upstream, all started at once."""
    data, upstream_port = tmp_path_factory.mktemp("litellm"), free_port()
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": kafka,
        "SPENDMETER_TOPIC_PREFIX": f"t{uuid4().hex[:12]}.",
        "SPENDMETER_PARTITIONS": str(PARTITIONS),
        "SPENDMETER_CLICKHOUSE_URL": clickhouse,
        "SPENDMETER_CLICKHOUSE_DATABASE": f"t{uuid4().hex[:12]}",
        "SPENDMETER_UPSTREAM_URL": f"http://{LOOPBACK}:{upstream_port}",
        "SPENDMETER_MASTER_KEY": f"sk-{secrets.token_hex(8)}",
        "SPENDMETER_STRICT_WAIT_MS": "30000",
    }
    named = {name.removeprefix("SPENDMETER_").lower(): value for name, value in env.items()}
    settings = GatewaySettings.model_validate(named | {"data_dir": data / "tests"})
    asyncio.run(create_topics(settings))
    history = open_client(SinkSettings.model_validate(named), database=None)
    migrate(history, named["clickhouse_database"])
    history.database = named["clickhouse_database"]
    with ExitStack() as running, httpx.Client(timeout=120, trust_env=False) as http:
        running.callback(history.close)
        upstream = ["spendmeter_local.upstream", "--port", str(upstream_port)]
        _start(running, "upstream", data, upstream, env)
        proxies = [Proxy(name, data / name, http, env) for name in ("g1", "g2")]
        for proxy in proxies:
            running.callback(proxy.kill)
        metrics = [
            _metered(running, "stream", data, ["spendmeter_stream"], env, INSTANCE_ID="stream"),
            _metered(running, "sink", data, ["spendmeter_sinks"], env, SINK_INSTANCE="sink"),
        ]
        url = env["SPENDMETER_UPSTREAM_URL"]
        started = wait_until(
            lambda: http_answers(f"{url}/health") and all(map(says_ready, metrics)),
            timeout_seconds=START_WITHIN_SECONDS,
        )
        assert started, [log.read_text()[-2000:] for log in (data / "stream.log", data / "sink.log")]
        for proxy in proxies:
            proxy.wait_ready()
        yield Stack(settings, proxies, Upstream(url, http), history, http)


def _metered(
    running: ExitStack, name: str, data: Path, command: list[str], env: dict[str, str], **more: str
) -> str:
    port = free_port()
    own = {f"SPENDMETER_{key}": value for key, value in more.items()}
    own |= {"SPENDMETER_METRICS_PORT": str(port), "SPENDMETER_DATA_DIR": str(data / name)}
    _start(running, name, data, command, env | own)
    return f"http://{LOOPBACK}:{port}/metrics"


def _start(
    running: ExitStack, name: str, data: Path, command: list[str], env: dict[str, str]
) -> subprocess.Popen[bytes]:
    env = env | {"SPENDMETER_COMPONENT": name}
    process = start_child([sys.executable, "-m", *command], log=data / f"{name}.log", env=env)
    running.callback(kill_child, process)
    return process
