"""The real broker and the real engine, started at first use, once per session, and gone with it.

`SPENDMETER_TEST_KAFKA` and `SPENDMETER_TEST_CLICKHOUSE` name other releases of them (tests/versions).

A test that wants them to itself asks for names nobody else uses: `topic_prefix`, `database`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import pytest
from hypothesis import settings

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, kafka_answers, wait_until
from tests import lanes
from tests.versions.releases import engine_under_test, kafka_under_test

# A busy machine is no failure: nothing here is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

READY_WITHIN_SECONDS = 240
STAYS = "broker.session.timeout.ms=600000\n"
"""Nobody kills this broker: it need not make room for a successor in 2 s, as the local stack's.

A crowded machine fences one whose heartbeat is later than that, and Kafka then names no broker at all.
"""

# Else LiteLLM would try to fetch its price list whenever a test imports it.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

lanes.keep_ports_apart()


def pytest_report_header() -> str:
    """What this run is on."""
    return f"Kafka {kafka_under_test().version}, ClickHouse's engine of {engine_under_test().version}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> lanes.Lanes:
    """Who does what with `-n`."""
    config.option.loadscopereorder = False
    return lanes.Lanes(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order with `-n`; else tests run as they stand."""
    if hasattr(config, "workerinput"):
        lanes.sort_lanes(items)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka node. It creates no topic by itself."""
    release = kafka_under_test()
    fetch_jars(release=release)
    controller_port = free_port()
    broker = Broker(
        tmp_path_factory.mktemp("kafka"),
        free_port([controller_port]),
        controller_port,
        release,
        more_properties=STAYS,
    )
    broker.prepare()
    with _running(broker.command(), broker.data_dir / "kafka.log", lambda: kafka_answers(broker.bootstrap)):
        yield broker.bootstrap


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the real ClickHouse engine, served over HTTP; user and password are in it."""
    data, port, password = tmp_path_factory.mktemp("clickhouse"), free_port(), token_hex(8)
    address = f"{LOOPBACK}:{port}"
    engine = engine_under_test()
    with _running(
        engine.command(data, port),
        data.with_suffix(".log"),
        lambda: http_answers(f"http://{address}/ping"),
        engine.env(password),
    ):
        yield f"http://default:{password}@{address}"


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and groups that no other test uses."""
    return f"t{uuid4().hex[:12]}."


@pytest.fixture
def database() -> str:
    """A database name that no other test uses. The test creates it."""
    return f"t{uuid4().hex[:12]}"


@contextmanager
def _running(
    command: Sequence[str], log: Path, is_ready: Callable[[], bool], env: Mapping[str, str] | None = None
) -> Iterator[None]:
    process = start_child(command, log=log, env=env)
    try:
        ready = wait_until(
            lambda: process.poll() is not None or is_ready(), timeout_seconds=READY_WITHIN_SECONDS
        )
        if not ready or process.poll() is not None:
            pytest.fail(f"not ready: {command[0]}\n{log.read_text()[-2000:]}")
        yield
    finally:
        kill_child(process)
