"""Opening balances on the real broker and the real engine: what history holds counts, exactly once."""

import asyncio
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from spendmeter.contract.decision import Why
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.domain.matching import subject_of
from spendmeter.topics.create import create_topics
from spendmeter_gateway.admission.decide import Denied
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from tests.builders import budget, usage
from tests.integration.stream.conftest import Stream, Worker, open_stream
from tests.patience import WITHIN_SECONDS


class SinkProcess:
    """`spendmeter sink`, to be killed and started again."""

    python = sys.executable
    command: tuple[str, ...] = ("-m", "spendmeter_sinks")
    """What Python is to run."""
    instance = "only"

    def __init__(self, settings: SinkSettings, log: Path) -> None:
        self._settings, self.log = settings, log
        self.start()

    def start(self) -> None:
        self.port = free_port()
        env = {
            "SPENDMETER_KAFKA_BOOTSTRAP": self._settings.kafka_bootstrap,
            "SPENDMETER_CLICKHOUSE_URL": self._settings.clickhouse_url,
            "SPENDMETER_CLICKHOUSE_DATABASE": self._settings.clickhouse_database,
            "SPENDMETER_TOPIC_PREFIX": self._settings.topic_prefix,
            "SPENDMETER_SINK_INSTANCE": self.instance,
            "SPENDMETER_METRICS_PORT": str(self.port),
        }
        self.process = start_child([self.python, *self.command], log=self.log, env={**os.environ, **env})

    def wait_ready(self) -> None:
        url = f"http://{LOOPBACK}:{self.port}/metrics"
        assert wait_until(lambda: says_ready(url), timeout_seconds=WITHIN_SECONDS), self.log.read_text()

    def kill(self) -> None:
        kill_child(self.process)


class System:
    """A stream worker and a sink as real processes, on topics and a database of their own."""

    def __init__(self, settings: SinkSettings, worker: Worker, sink: SinkProcess) -> None:
        self.settings, self.worker, self.sink = settings, worker, sink

    def stream(self) -> AbstractAsyncContextManager[Stream]:
        return open_stream(self.settings)


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("openings")
    name = f"t{uuid4().hex[:12]}"
    settings = SinkSettings(
        kafka_bootstrap=kafka, clickhouse_url=clickhouse, topic_prefix=f"{name}.", clickhouse_database=name
    )
    asyncio.run(create_topics(settings))
    server = open_client(settings, database=None)
    migrate(server, name)
    server.close()
    running = System(
        settings, Worker(settings, directory, "stream-1"), SinkProcess(settings, directory / "sink.log")
    )
    try:
        running.worker.wait_ready()
        running.sink.wait_ready()
        yield running
    finally:
        running.worker.kill()
        running.sink.kill()


class Keys:
    """Events of keys that no other test uses, and what they add up to."""

    def __init__(self, name: str, keys: int) -> None:
        self.name = name
        self.keys = [f"{name}-{n}" for n in range(keys)]
        self.events: list[UsageEvent] = []
        self._random = random.Random(name)

    def make(self, count: int, ago: timedelta = timedelta()) -> list[UsageEvent]:
        made = []
        for _ in range(count):
            at = datetime.now(UTC) - ago
            seq, cost = len(self.events) + 1, self._random.randrange(1, 1_000_000)
            event = usage(
                seq,
                cost,
                event_id=uuid4(),
                producer_id=self.name,
                key=self._random.choice(self.keys),
                team=self.name,
                occurred_at=at,
                started_at=at,
            )
            self.events.append(event)
            made.append(event)
        return made

    def spent(self, budget_id: str, since: datetime | None = None) -> dict[str, int]:
        """Per account of a budget per key of this team."""
        sums: dict[str, int] = {}
        for event in self.events:
            if since is None or event.occurred_at >= since:
                account = f"{budget_id}|key={event.key}&team={self.name}"
                sums[account] = sums.get(account, 0) + event.cost_nanousd
        return sums


def latest(signals: list[Signal], budget_id: str, revision: int = 0) -> dict[str, Signal]:
    held: dict[str, Signal] = {}
    for signal in signals:
        if signal.budget_id == budget_id and signal.revision >= revision:
            known = held.get(signal.account)
            if known is None or signal.order() >= known.order():
                held[signal.account] = signal
    return held


def says(budget_id: str, expected: dict[str, int], revision: int = 0) -> Callable[[list[Signal]], bool]:
    """Whether every account is told of in full; and that none ever says more than was spent."""

    def told(signals: list[Signal]) -> bool:
        held = latest(signals, budget_id, revision)
        assert all(s.spent_nanousd <= expected.get(a, 0) for a, s in held.items()), (held, expected)
        whole = {account: s.spent_nanousd for account, s in held.items() if not s.opening}
        return whole == expected

    return told


def per_key(keys: Keys, **fields: Any) -> Any:
    defaults = {"id": keys.name, "match": {"key": "*", "team": keys.name}, "period": "lifetime"}
    return budget(**{**defaults, "limit_nanousd": 10_000_000_000, **fields})


async def test_what_was_spent_before_a_budget_counts(system: System) -> None:
    keys = Keys("before", keys=5)
    async with system.stream() as stream:
        await stream.send(keys.make(100))
        await stream.client.apply([per_key(keys)])
        # Without any more traffic.
        await stream.until(Topic.SIGNALS, says("before", keys.spent("before")))
        await stream.send(keys.make(50))
        await stream.until(Topic.SIGNALS, says("before", keys.spent("before")))


async def test_a_key_that_spent_more_than_a_new_budget_allows_is_refused_at_once(system: System) -> None:
    keys = Keys("over", keys=1)
    async with system.stream() as stream:
        await stream.send(keys.make(20))
        spent = keys.spent("over")
        await stream.client.apply([per_key(keys, limit_nanousd=sum(spent.values()))])
        await stream.until(Topic.SIGNALS, says("over", spent))
    (event,) = keys.events[:1]
    settings = system.settings
    views = GatewayState(
        GatewaySettings(kafka_bootstrap=settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
    )
    readers = [asyncio.create_task(views.budgets.run()), asyncio.create_task(views.signals.run())]
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            await views.all_read()
        decision = views.decide(subject_of(event))
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(decision, Denied)
    assert decision.why is Why.LIMIT_REACHED
    assert decision.spent_nanousd == sum(spent.values())


async def test_a_reset_that_names_a_past_moment_counts_what_came_after_it(system: System) -> None:
    keys = Keys("reset", keys=3)
    async with system.stream() as stream:
        await stream.client.apply([per_key(keys)])
        await stream.send(keys.make(30, ago=timedelta(minutes=20)))
        await stream.send(keys.make(30, ago=timedelta(minutes=5)))
        await stream.until(Topic.SIGNALS, says("reset", keys.spent("reset")))
        since = datetime.now(UTC) - timedelta(minutes=10)
        changed = await stream.client.reset("reset", at=since)
        await stream.until(Topic.SIGNALS, says("reset", keys.spent("reset", since), changed.revision))
        await stream.send(keys.make(10))
        await stream.until(Topic.SIGNALS, says("reset", keys.spent("reset", since), changed.revision))


async def test_kill_9_of_stream_and_sink_under_traffic_counts_everything_once(system: System) -> None:
    keys = Keys("killed", keys=4)
    async with system.stream() as stream:
        await stream.send(keys.make(150))
        await stream.client.apply([per_key(keys)])
        traffic = asyncio.create_task(_trickle(stream, keys))
        system.sink.kill()
        system.worker.kill()
        system.worker.start()
        system.sink.start()
        await traffic
        system.worker.kill()
        system.worker.start()
        # Sent twice, as by a gateway that did not hear the answer.
        await stream.send(keys.events[100:200])
        system.worker.wait_ready()
        system.sink.wait_ready()
        await stream.until(Topic.SIGNALS, says("killed", keys.spent("killed")))


async def _trickle(stream: Stream, keys: Keys) -> None:
    for _ in range(10):
        await stream.send(keys.make(15))
        await asyncio.sleep(0.05)  # the rate of the traffic, not a synchronisation
