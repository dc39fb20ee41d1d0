"""Kafka away: at the start, in the middle, for good. The gateway serves on and enforces what it knows."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spendmeter.contract.decision import Why
from spendmeter.domain.matching import Subject
from spendmeter.kafka.client import producer
from spendmeter.litellm.entities import LitellmEntity
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.topics.create import create_topics
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.patience import WITHIN_SECONDS
from tests.versions.releases import kafka_under_test

from .conftest import PARTITIONS, Asker, Hand, budget, recorded, signal, until


class OwnBroker:
    """A broker that this test alone may start and kill."""

    def __init__(self, data: Path) -> None:
        fetch_jars(release=kafka_under_test())
        controller_port = free_port()
        self._broker = Broker(data, free_port([controller_port]), controller_port, kafka_under_test())
        self._broker.prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = self._broker.bootstrap

    async def start(self) -> None:
        # On the main thread: the broker ends with the thread that started it.
        self._process = start_child(self._broker.command(), log=self._broker.data_dir / "kafka.log")
        assert await asyncio.to_thread(wait_until, lambda: kafka_answers(self.bootstrap), timeout_seconds=240)

    def kill(self) -> None:
        if self._process is not None:
            kill_child(self._process)
            self._process = None


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    own = OwnBroker(tmp_path_factory.mktemp("own-kafka"))
    yield own
    own.kill()


@pytest.fixture
def settings(broker: OwnBroker, topic_prefix: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        kafka_bootstrap=broker.bootstrap,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        data_dir=tmp_path,
        start_wait_ms=200,
        drain_seconds=0.1,
    )


@pytest.fixture
async def asker(settings: GatewaySettings) -> AsyncIterator[Asker]:
    gateway = Gateway(settings)
    gateway.start()
    yield Asker(gateway)
    await asyncio.to_thread(gateway.stop)


async def test_without_kafka_at_the_start_requests_wait_briefly_and_are_served(
    broker: OwnBroker, asker: Asker
) -> None:
    broker.kill()
    begun = time.monotonic()

    assert await asyncio.wait_for(asker.asks(), WITHIN_SECONDS) is None
    assert time.monotonic() - begun >= 0.2


async def test_without_kafka_at_the_start_on_stale_block_refuses_and_says_why(
    broker: OwnBroker, settings: GatewaySettings
) -> None:
    broker.kill()
    gateway = Gateway(settings.model_copy(update={"on_stale": "block"}))
    gateway.start()
    try:
        refusal = await Asker(gateway).asks()
    finally:
        await asyncio.to_thread(gateway.stop)

    assert refusal is not None
    assert refusal.refuse.why is Why.BLIND
    assert refusal.headers["retry-after"] == "1"


async def test_an_outage_from_start_to_end_loses_nothing_and_needs_no_restart(
    broker: OwnBroker, settings: GatewaySettings, asker: Asker
) -> None:
    broker.kill()
    events = [recorded(asker.gateway, 10) for _ in range(5)]
    await broker.start()
    await create_topics(settings)
    async with producer(settings) as kafka:
        hand = Hand(settings, kafka)
        of = budget()
        await hand.puts(of)
        await hand.signals(signal(of, 50))
        await asker.has(of)
        await asker.knows(of, 50)
        await until(lambda: asker.gateway.views.spend.oldest_recorded_seconds() is None, "all sent")

    # Kafka dies under load: what is known stays in force, and own spend counts on.
    broker.kill()
    assert await asker.asks() is None
    events += [recorded(asker.gateway, 10) for _ in range(4)]
    assert await asker.asks() is None
    events.append(recorded(asker.gateway, 10))
    # Without `await`ing anything: no request waits for a Kafka that is away.
    asking = asker.gateway.admit(Caller(Subject(key="k"), "k"))
    with pytest.raises(StopIteration) as ended:
        asking.send(None)
    assert ended.value.value.refuse.spent_nanousd == 100
    # So is what LiteLLM shows meanwhile, of a key that nobody has asked with before.
    asker.gateway.adopter.note([LitellmEntity("key", ("new",), max_budget=0.00000001)])
    await until(lambda: asker.gateway.views.budgets.book.get("litellm:key:new"), "enforced here")
    events.append(recorded(asker.gateway, 10, key="new"))
    assert await asker.asks("new") is not None

    await broker.start()
    async with producer(settings) as kafka:
        hand = Hand(settings, kafka)
        await until(lambda: asker.gateway.views.spend.oldest_recorded_seconds() is None, "all sent")
        await hand.puts(budget(limit_nanousd=101, revision=2))
        await asker.until_admitted()
        await until(lambda: not asker.gateway.adopter.has_work, "stored")
        topic = BudgetTopic(settings)
        await topic.read_to_end()
        adopted = topic.book.get("litellm:key:new")

    assert adopted is not None
    assert [event.seq for event in events] == list(range(1, 12))
