"""Health checks as a supervisor makes them: over HTTP, on the pages of real processes."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from tests.patience import WITHIN_SECONDS

ROUTES = 'routes: [{name: hook, to: {webhook: {url: "http://127.0.0.1:9/", format: litellm}}}]\n'

Answer = tuple[int, str]
Start = Callable[..., int]
"""Starts a module with settings; returns the port of its metrics page."""


def get(port: int, path: str) -> Answer:
    """Status and text; status 0 where nobody answers."""
    try:
        with urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except (URLError, OSError) as error:
        return 0, repr(error)


async def until(port: int, path: str, expected: Answer) -> None:
    found = await asyncio.to_thread(
        wait_until, lambda: get(port, path) == expected, timeout_seconds=WITHIN_SECONDS
    )
    assert found, get(port, path)


@pytest.fixture
def start(settings: SinkSettings, tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "alerts.yaml").write_text(ROUTES)
    started = []

    def start(*command: str, **env: str) -> int:
        port = free_port()
        given = {
            "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "TOPIC_PREFIX": settings.topic_prefix,
            "PARTITIONS": str(settings.partitions),
            "CLICKHOUSE_URL": settings.clickhouse_url,
            "CLICKHOUSE_DATABASE": settings.clickhouse_database,
            "DATA_DIR": str(tmp_path / "data"),
            "ALERTS_ROUTES": str(tmp_path / "alerts.yaml"),
            "METRICS_PORT": str(port),
            **env,
        }
        process = start_child(
            [sys.executable, "-m", *command],
            log=tmp_path / f"{port}.log",
            env={**os.environ, **{f"SPENDMETER_{name}": value for name, value in given.items()}},
        )
        started.append(process)
        return port

    yield start
    for process in started:
        kill_child(process)


async def test_each_process_says_that_it_lives_and_when_it_does_its_work(
    start: Start, history: Client
) -> None:
    page = free_port()
    ports = [
        start("spendmeter_stream"),
        start("spendmeter_sinks"),
        start("spendmeter_sinks.alerts"),
        start("spendmeter_console", WEB_PORT=str(page)),
    ]
    for port in (*ports, page):
        await until(port, "/readyz", (200, "ok\n"))
        assert get(port, "/healthz") == (200, "ok\n")


async def test_a_process_that_cannot_work_lives_and_is_not_ready(
    start: Start, history: Client, topic_prefix: str
) -> None:
    """A restart would not help it, so nothing must restart it."""
    ports = [
        start("spendmeter_stream", TOPIC_PREFIX=f"{topic_prefix}none."),
        start("spendmeter_sinks", CLICKHOUSE_URL=f"http://{LOOPBACK}:{free_port()}"),
    ]
    for port in ports:
        await until(port, "/healthz", (200, "ok\n"))
        assert get(port, "/readyz") == (503, "not ready: the log says what this process waits for\n")
        assert "\nspendmeter_ready 0.0\n" in get(port, "/metrics")[1]
