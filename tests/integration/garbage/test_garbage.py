"""Generated garbage on every topic under traffic: nothing stops, and every sum is right to the nano-dollar.

SPENDMETER_GARBAGE_BATCHES and SPENDMETER_GARBAGE_SEED make it as long as one likes: `make garbage`.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from click.testing import CliRunner

from spendmeter.cli.main import main
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import connection, consumer, partition_of
from spendmeter.topics.create import create_topics
from spendmeter.topics.signals import SignalTopic
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.reconcile.report import Report
from tests.builders import budget, usage
from tests.integration.cli.conftest import spendmeter
from tests.integration.garbage.generate import CHANGELOGS, NOBODY, TOPICS, Batch, garbage
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Stream, Worker, open_stream
from tests.patience import WITHIN_SECONDS
from tests.raw_records import Raw, raw_producer, send_raw

SEED = int(os.environ.get("SPENDMETER_GARBAGE_SEED", "7"))
BATCHES = int(os.environ.get("SPENDMETER_GARBAGE_BATCHES", "400"))
KEYS = [f"key-{n}" for n in range(8)]
# The broker refuses what it can tell: a time too far ahead, a record too large, a compacted one with no key.
MOST_REFUSED = 0.35
EVENTS_BESIDE = 3


class System:
    """A worker, a sink, the readers of a gateway; and what was spent."""

    def __init__(self, settings: SinkSettings, directory: Path) -> None:
        self.settings = settings
        self.worker = Worker(settings, directory, "stream-1")
        self.sink = SinkProcess(settings, directory / "sink.log")
        self.views = GatewayState(
            GatewaySettings(kafka_bootstrap=settings.kafka_bootstrap, topic_prefix=settings.topic_prefix)
        )
        self.signals = SignalTopic(settings)
        self.spent: Counter[str] = Counter()
        self._seqs: Counter[str] = Counter()
        self._chance = random.Random(SEED)

    def events(self, count: int) -> list[UsageEvent]:
        """New ones, each of some key."""
        made = []
        for _ in range(count):
            key, cost = self._chance.choice(KEYS), self._chance.randrange(1, 1_000_000)
            self._seqs[key] += 1
            self.spent[f"per-key|key={key}&team=ours"] += cost
            self.spent["all|team=ours"] += cost
            now = datetime.now(UTC)
            fields: dict[str, Any] = {"event_id": uuid4(), "key": key, "producer_id": f"of {key}"}
            made.append(usage(self._seqs[key], cost, occurred_at=now, started_at=now, team="ours", **fields))
        return made

    async def until_told(self) -> None:
        """Wait until the signals say what was spent, to the nano-dollar; fail with what they said last."""
        told: dict[str, int] = {}
        found: list[Signal | None] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(WITHIN_SECONDS):
                while told != self.spent:
                    await self.signals.catch_up()
                    found = [self.signals.signals.get(account) for account in self.spent]
                    told = {s.account: s.spent_nanousd for s in found if s is not None and not s.opening}
        assert told == self.spent, found


@pytest.fixture
def system(kafka: str, clickhouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    name = f"t{uuid4().hex[:12]}"
    settings = SinkSettings(
        kafka_bootstrap=kafka, clickhouse_url=clickhouse, topic_prefix=f"{name}.", clickhouse_database=name
    )
    asyncio.run(create_topics(settings))
    server = open_client(settings, database=None)
    migrate(server, name)
    server.close()
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", name)
    running = System(settings, tmp_path)
    try:
        running.worker.wait_ready()
        running.sink.wait_ready()
        yield running
    finally:
        running.worker.kill()
        running.sink.kill()


async def test_garbage_on_every_topic_stops_nothing_and_changes_no_sum(system: System) -> None:
    views = system.views
    followed = (views.budgets, views.signals, system.signals)
    readers = [asyncio.create_task(topic.run()) for topic in followed]
    async with open_stream(system.settings) as stream:
        await stream.send(system.events(30))
        budgets = [budget(period="lifetime", match={"key": "*", "team": "ours"}), _of_all()]
        await stream.client.apply(budgets)
        written, refused = await _under_traffic(system, stream)
        assert set(written) == set(TOPICS), "garbage reached every topic"
        assert sum(refused.values()) < MOST_REFUSED * (sum(written.values()) + sum(refused.values())), refused
        await system.until_told()
        await _spoil_changelogs(system.settings)
        # A worker reads its changelogs when it starts.
        for process in (system.worker, system.sink):
            process.kill()
            process.start()
        system.worker.wait_ready()
        system.sink.wait_ready()
        await stream.send(system.events(30))
        await system.until_told()
        async with asyncio.timeout(WITHIN_SECONDS):
            await views.all_read()
            await views.signals.catch_up()
            await views.budgets.catch_up()
    for reader in readers:
        assert not reader.done(), reader
    assert {one.id for one in budgets} <= {one.id for one in views.budgets.book}
    assert [one.process.poll() for one in (system.worker, system.sink)] == [None, None]
    await _commands_answer()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def _of_all() -> Any:
    return budget(id="all", match={"team": "ours"}, period="lifetime")


async def _under_traffic(system: System, stream: Stream) -> tuple[Counter[str], Counter[str]]:
    """Write it all, with events of ours in between; returns what was stored, and what the broker refused."""
    settings = system.settings
    written: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    chance = random.Random(SEED)
    kafka = raw_producer(settings)
    transactions = AIOKafkaProducer(
        **connection(settings), transactional_id=settings.topic_prefix, max_request_size=16 * 1024 * 1024
    )
    await kafka.start()
    await transactions.start()
    try:
        for batch in garbage(SEED, BATCHES):
            partition = chance.randrange(await _partitions(kafka, settings.topic_prefix + batch.topic))
            try:
                await _write(kafka, transactions, settings.topic_prefix, batch, partition)
                written[batch.topic] += 1
            except KafkaError as error:
                refused[type(error).__name__] += 1
            await stream.send(system.events(EVENTS_BESIDE))
    finally:
        await transactions.stop()
        await kafka.stop()
    return written, refused


async def _write(
    kafka: AIOKafkaProducer, transactions: AIOKafkaProducer, prefix: str, batch: Batch, partition: int
) -> None:
    name = prefix + batch.topic
    if batch.transaction is None:
        await send_raw(kafka, name, partition, batch.records, batch.codec)
        return
    await transactions.begin_transaction()
    try:
        for record in batch.records:
            await transactions.send_and_wait(name, record.value, record.key, partition=partition)
    except KafkaError:
        await transactions.abort_transaction()
        raise
    await (transactions.commit_transaction() if batch.transaction else transactions.abort_transaction())


async def _spoil_changelogs(settings: SinkSettings) -> None:
    """Put garbage under the keys of entries that are in force."""
    reader, kafka = consumer(settings), raw_producer(settings)
    await reader.start()
    await kafka.start()
    try:
        for changelog in CHANGELOGS:
            name = settings.topic_prefix + changelog
            partitions = [TopicPartition(name, n) for n in range(settings.partitions)]
            reader.assign(partitions)
            await reader.seek_to_beginning()
            ends = await reader.end_offsets(partitions)
            keys: dict[int, set[bytes]] = {n: set() for n in range(settings.partitions)}
            while any([await reader.position(tp) < ends[tp] for tp in partitions]):
                for tp, records in (await reader.getmany(timeout_ms=500)).items():
                    keys[tp.partition] |= {record.key for record in records if record.value}
            assert any(keys.values()), "there are entries"
            for partition, found in keys.items():
                spoilt = [Raw(value, key) for key in found for value in (b"[9999999999", b"\xff", b"[1]")]
                if spoilt:
                    await send_raw(kafka, name, partition, spoilt)
    finally:
        await reader.stop()
        await kafka.stop()


async def _partitions(kafka: AIOKafkaProducer, name: str) -> int:
    return len(await kafka.partitions_for(name))


async def _commands_answer() -> None:
    """Everything of ours that reads a topic once, and reconcile, which must find all equal."""
    for command in (
        ("budget", "list"),
        ("alerts",),
        ("top",),
        ("letters", "list"),
        ("letters", "list", "--all", "--json"),
        ("query", "SELECT count() FROM dead_letters FINAL"),
    ):
        await asyncio.to_thread(spendmeter, *command)
    compared = await asyncio.to_thread(CliRunner().invoke, main, ["reconcile", "--json", "--wait", "60"])
    assert compared.exit_code in (0, 1), compared.output
    report = Report.model_validate_json(compared.output)
    # Of nobody there are events whose predecessors nobody has, and totals that somebody made up.
    about = [getattr(d, "account", getattr(d, "producer_id", "")) for d in report.differences]
    assert [name for name in about if not name.startswith(NOBODY)] == []
    assert report.more_differences == 0
    assert report.compared.windows >= len(KEYS) + 1


def test_the_generator_is_a_function_of_its_seed() -> None:
    assert [*garbage(1, 60)] == [*garbage(1, 60)]
    assert [*garbage(1, 60)] != [*garbage(2, 60)]
    assert {batch.topic for batch in garbage(1, 60)} == set(TOPICS)
    assert partition_of(KEYS[0], 4) in range(4)
    assert set(CHANGELOGS) <= set(TOPICS)
