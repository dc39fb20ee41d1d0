"""Topics of one's own, and a broker of one's own that a test may kill."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from spendmeter.client import SpendmeterClient, connect
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.patience import WITHIN_SECONDS
from tests.versions.releases import kafka_under_test


@pytest.fixture
async def settings(kafka: str, topic_prefix: str) -> Settings:
    """A system of its own on the session's broker, its topics created."""
    made = Settings(kafka_bootstrap=kafka, topic_prefix=topic_prefix, component="test")
    await create_topics(made)
    return made


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[SpendmeterClient]:
    async with connect(settings) as connected:
        yield connected


class MortalBroker:
    """A broker that a test may kill with -9 and start again on the same port and data."""

    def __init__(self, directory: Path) -> None:
        controller_port = free_port()
        self._broker = Broker(directory, free_port([controller_port]), controller_port, kafka_under_test())
        self._broker.prepare()
        self._log = directory / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = self._broker.bootstrap

    def start(self) -> None:
        """Return once it answers. Not on an event loop: the probe runs one of its own."""
        self._process = start_child(self._broker.command(), log=self._log)
        self._wait()

    async def start_again(self) -> None:
        """The same, on an event loop."""
        self._process = start_child(self._broker.command(), log=self._log)
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        answered = wait_until(lambda: kafka_answers(self.bootstrap), timeout_seconds=WITHIN_SECONDS)
        assert answered, self._log.read_text()

    def kill(self) -> None:
        if self._process is not None:
            kill_child(self._process)
            self._process = None


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[MortalBroker]:
    fetch_jars(release=kafka_under_test())
    broker = MortalBroker(tmp_path)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@asynccontextmanager
async def under_way(run: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[asyncio.Task[None]]:
    """Something that runs until cancelled, for as long as the block lasts."""
    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
