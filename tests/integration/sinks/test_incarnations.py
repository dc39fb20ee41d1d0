"""Topics made anew, another prefix, more partitions, history restored: every account keeps what it had.

Real broker, real engine, real processes, under traffic. What each must come to is added up here, from the
events that were sent, and nowhere else.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from spendmeter.contract.provider_object import object_event_id
from spendmeter.contract.records import encode_usage, placed_by, sent_before
from spendmeter.contract.signal import Signal
from spendmeter.contract.topics import Topic
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import partition_of, producer
from spendmeter.topics.create import create_topics
from spendmeter.topics.state import lookup_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import kafka_answers, says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.move.command import move
from spendmeter_sinks.move.plan import CannotMove, MovePlan
from spendmeter_sinks.move.run import Move
from spendmeter_sinks.reconcile.report import Report
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from tests.builders import budget, usage
from tests.integration.kafka.test_topic_state import add_partitions, make_anew
from tests.integration.sinks.test_opening_balance import SinkProcess
from tests.integration.stream.conftest import Stream, Worker, open_stream
from tests.patience import WITHIN_SECONDS

DRILL = pytest.mark.skipif("SPENDMETER_DRILLS" not in os.environ, reason="`make drills` runs it")
BUDGETS = (
    budget(id="per-key", period="lifetime", limit_nanousd=10**15),
    budget(id="month", match={}, period="month", limit_nanousd=10**15),
)


class Traffic:
    """Events of gateways that move one after another, and what they come to by account."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._seqs: dict[str, int] = {}
        self._random = random.Random(20)

    def make(self, producer_id: str, count: int, **fields: Any) -> list[UsageEvent]:
        """New events, counted here once however often they are sent."""
        made = []
        for _ in range(count):
            seq = self._seqs[producer_id] = self._seqs.get(producer_id, 0) + 1
            now, cost = datetime.now(UTC), self._random.randrange(1, 1_000_000)
            given = {"event_id": uuid4(), "key": f"k{self._random.randrange(12)}", **fields}
            event = usage(seq, cost, producer_id=producer_id, occurred_at=now, started_at=now, **given)
            for account in (f"per-key|key={event.key}", "month|"):
                self.spent[account] = self.spent.get(account, 0) + cost
            made.append(event)
        return made


class System:
    """A stream worker and a sink on one prefix."""

    def __init__(self, settings: SinkSettings, directory: Path, name: str) -> None:
        self.settings = settings
        self.worker = Worker(
            settings, directory, f"stream-{name}", SPENDMETER_PARTITIONS=str(settings.partitions)
        )
        self.sink = SinkProcess(settings, directory / f"sink-{name}.log")

    def wait_ready(self) -> "System":
        self.worker.wait_ready()
        self.sink.wait_ready()
        return self

    def kill(self) -> None:
        for process in (self.worker, self.sink):
            if process.process.poll() is None:
                process.kill()


Start = Callable[[SinkSettings, str], System]


@pytest.fixture
async def settings(kafka: str, clickhouse: str, topic_prefix: str, database: str) -> SinkSettings:
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=topic_prefix,
        clickhouse_database=database,
    )
    await create_topics(settings)
    server = open_client(settings, database=None)
    migrate(server, database)
    server.close()
    return settings


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[System] = []

    def start(settings: SinkSettings, name: str) -> System:
        running.append(System(settings, tmp_path, name))
        return running[-1]

    yield start
    for system in running:
        system.kill()


def renamed(settings: SinkSettings, **more: Any) -> SinkSettings:
    """The same system under another prefix."""
    return settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}v2.", **more})


async def moved(source: SinkSettings, target: SinkSettings) -> MovePlan:
    client = open_client(target, target.clickhouse_database)
    try:
        moving = Move(source, target, client)
        planned = await moving.plan()
        await moving.apply(planned, "a test")
        return planned
    finally:
        client.close()


def said_by_move(settings: SinkSettings, *options: str) -> str:
    """What the command prints, run where the system stands."""
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
        "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
    }
    done = CliRunner().invoke(move, options, env=env)
    assert done.exit_code == 0, done.output
    return done.output


async def compared(settings: SinkSettings) -> Report:
    client = open_client(settings, settings.clickhouse_database)
    try:
        return await reconcile(settings, client, WindowFilter(), datetime.now(UTC), 30.0, 1.0)
    finally:
        client.close()


def whole(signals: list[Signal]) -> dict[str, int]:
    """What each account is said to have spent, of those whose latest signal says that nothing is missing."""
    latest: dict[str, Signal] = {}
    for signal in signals:
        known = latest.get(signal.account)
        if known is None or signal.order() >= known.order():
            latest[signal.account] = signal
    return {account: s.spent_nanousd for account, s in latest.items() if not s.opening}


def have(spent: dict[str, int]) -> Callable[[list[Signal]], bool]:
    """Whether each account has exactly that. Else it prints what differs, for a test that fails."""

    def is_equal(signals: list[Signal]) -> bool:
        said = whole(signals)
        differing = {a: (said.get(a), spent.get(a)) for a in {*said, *spent} if said.get(a) != spent.get(a)}
        print("said, spent:", differing)
        return not differing

    return is_equal


def says(log: Path, *words: str) -> None:
    """Wait until the log has a line with all these words."""

    def said() -> bool:
        return any(all(word in line for word in words) for line in log.read_text().splitlines())

    assert wait_until(said, timeout_seconds=WITHIN_SECONDS), log.read_text()[-3000:]


def is_not_ready(port: int) -> None:
    url = f"http://{LOOPBACK}:{port}/metrics"
    assert wait_until(lambda: not says_ready(url), timeout_seconds=WITHIN_SECONDS)


async def send_again(stream: Stream, events: list[UsageEvent], incarnation: str) -> None:
    """As a gateway that does not know whether the earlier topic has them, either."""
    async with producer(stream.settings) as kafka:
        for event in events:
            record = sent_before(encode_usage(event), incarnation)
            await kafka.send_and_wait(
                stream.settings.topic(Topic.USAGE),
                **record._asdict(),
                partition=partition_of(placed_by(event), stream.settings.partitions),
            )


async def test_a_move_to_more_partitions_under_traffic_keeps_every_account(
    settings: SinkSettings, start: Start
) -> None:
    traffic, target = Traffic(), renamed(settings, partitions=8)
    old = start(settings, "old").wait_ready()
    async with open_stream(settings) as before:
        await before.client.apply(list(BUDGETS))
        await before.send(traffic.make("g1", 300))
        await before.until(Topic.SIGNALS, have(traffic.spent))
        bill = traffic.make("g1", 1, object_id="openai/r1", event_id=object_event_id("openai/r1"))
        await before.send(bill)
        incarnation = (await lookup_topics(settings, [settings.topic(Topic.USAGE)]))[
            settings.topic(Topic.USAGE)
        ].incarnation

        options = ("--to-prefix", target.topic_prefix, "--partitions", "8")
        planned = await asyncio.to_thread(said_by_move, settings, *options)
        assert "copy 2 budgets" in planned
        assert "nothing was done" in planned
        assert await lookup_topics(target, [target.topic(Topic.USAGE)]) == {}
        done = await asyncio.to_thread(said_by_move, settings, *options, "--apply")
        assert f"SPENDMETER_TOPIC_PREFIX={target.topic_prefix} SPENDMETER_PARTITIONS=8" in done
        again = await asyncio.to_thread(said_by_move, settings, *options)
        assert "nothing is left to do" in again
        new = start(target, "new")
        # One gateway goes on writing to the old topic, one has moved; and what one had sent just before it
        # moved, without an answer, it sends again. Of these the old topic has some.
        lingering = asyncio.create_task(_trickle(before, traffic, "g1"))
        async with open_stream(target) as after:
            doubted = traffic.make("g2", 40)
            await before.send(doubted[:25])
            new.wait_ready()
            begun = monotonic()
            # Of two copies ClickHouse keeps that of the lower offset: now these are the ones, now those.
            await send_again(after, doubted[:20], incarnation)
            await after.send(traffic.make("g3", 900))
            await send_again(after, doubted[20:], incarnation)
            # A bill that was counted where the system stood before is read again.
            await after.send(bill)
            await lingering
            await after.until(Topic.SIGNALS, have(traffic.spent))
            print(f"difference 0; whole {monotonic() - begun:.1f} s after the first event in the new topics")
            report = await compared(target)
            assert report.equal, report.differences
            # All that was old may go.
            old.kill()
            await after.send(traffic.make("g3", 50))
            await after.until(Topic.SIGNALS, have(traffic.spent))


async def all_is_counted_by_a_new(system: System, traffic: Traffic) -> None:
    """A system that goes on has what was before, counts what comes, and reconcile finds no difference."""
    system.wait_ready()
    async with open_stream(system.settings) as after:
        await after.send(traffic.make("g2", 100))
        await after.until(Topic.SIGNALS, have(traffic.spent))
    report = await compared(system.settings)
    assert report.equal, report.differences


async def _trickle(stream: Stream, traffic: Traffic, producer_id: str) -> None:
    for _ in range(10):
        await stream.send(traffic.make(producer_id, 15))
        await asyncio.sleep(0.1)  # the rate of the traffic, not a synchronisation


@DRILL
async def test_a_topic_made_anew_under_running_processes_is_said_and_a_move_counts_all(
    settings: SinkSettings, start: Start
) -> None:
    traffic, target = Traffic(), renamed(settings)
    old = start(settings, "old").wait_ready()
    async with open_stream(settings) as before:
        await before.client.apply(list(BUDGETS))
        await before.send(traffic.make("g1", 200))
        await before.until(Topic.SIGNALS, have(traffic.spent))
        counted = dict(traffic.spent)
        history_has(settings, 200)
        begun = monotonic()
        await make_anew(settings, settings.topic(Topic.USAGE))
        says(old.worker.log, "not ready", "was deleted and created anew", "spendmeter move --to-prefix")
        says(old.sink.log, "not ready", "another topic", "spendmeter move")
        print(f"said {monotonic() - begun:.1f} s after the topic was made anew")
        is_not_ready(old.worker.port)
        is_not_ready(old.sink.port)
    # A gateway finds the new topic by itself; nobody counts what it sends, nor counts it wrongly.
    async with open_stream(settings) as before:
        await before.send(traffic.make("g1", 100))
        # Nor does a worker that is started again, and it does not end.
        old.worker.kill()
        old.worker.start()
        says(old.worker.log, "not ready", "what the stream knows is of")
        is_not_ready(old.worker.port)
        assert whole(await before.read(Topic.SIGNALS)) == counted

        with pytest.raises(CannotMove, match="give --to-prefix"):
            await moved(settings, settings)
        planned = await moved(settings, target)
        assert [entry.of.topic for entry in planned.entries] == [settings.topic(Topic.USAGE)]
        await all_is_counted_by_a_new(start(target, "new"), traffic)


@DRILL
async def test_partitions_added_under_a_running_stream_are_said_and_a_move_counts_all(
    settings: SinkSettings, start: Start
) -> None:
    traffic, target = Traffic(), renamed(settings, partitions=8)
    old = start(settings, "old").wait_ready()
    async with open_stream(settings) as before:
        await before.client.apply(list(BUDGETS))
        await before.send(traffic.make("g1", 100))
        await before.until(Topic.SIGNALS, have(traffic.spent))
    begun = monotonic()
    await add_partitions(settings, settings.topic(Topic.USAGE), 8)
    says(old.worker.log, "not ready", "has 8 partitions, it had 4", "spendmeter move")
    print(f"said {monotonic() - begun:.1f} s after partitions were added")
    is_not_ready(old.worker.port)
    async with open_stream(settings.model_copy(update={"partitions": 8})) as before:
        await before.send(traffic.make("g1", 200))
    old.worker.kill()
    old.worker.start()
    says(old.worker.log, "not ready", "SPENDMETER_PARTITIONS is 4", "--partitions 8")
    assert old.worker.process.poll() is None
    # Only what is under way to history keeps the old sink; what it has not read by now would be missing.
    await moved(settings, target)
    await all_is_counted_by_a_new(start(target, "new"), traffic)


@DRILL
async def test_another_prefix_is_not_stored_until_it_is_said_to_go_on(
    settings: SinkSettings, start: Start
) -> None:
    traffic, target = Traffic(), renamed(settings)
    old = start(settings, "old").wait_ready()
    async with open_stream(settings) as before:
        await before.client.apply(list(BUDGETS))
        await before.send(traffic.make("g1", 100))
        await before.until(Topic.SIGNALS, have(traffic.spent))
    history_has(settings, 100)
    old.kill()
    await create_topics(target)
    new = start(target, "new")
    new.worker.wait_ready()
    says(new.sink.log, "not ready", settings.clickhouse_database, settings.topic_prefix, "spendmeter move")
    async with open_stream(target) as after:
        await after.client.apply(list(BUDGETS))
        await after.send(traffic.make("g2", 100))
        # It counts, and says that it is not all.
        await after.until(Topic.SIGNALS, lambda found: len({s.account for s in found}) == 13)
        assert whole(await after.read(Topic.SIGNALS)) == {}
        history_has(settings, 100)
        await moved(target, target)
        new.sink.wait_ready()
        await after.until(Topic.SIGNALS, have(traffic.spent))
        report = await compared(target)
        assert report.equal, report.differences


@DRILL
async def test_another_cluster_goes_on_where_one_stood_that_is_gone(
    settings: SinkSettings, start: Start, tmp_path: Path
) -> None:
    traffic = Traffic()
    controller = free_port()
    broker = Broker(tmp_path / "other", free_port([controller]), controller)
    broker.data_dir.mkdir()
    await asyncio.to_thread(broker.prepare)
    log = tmp_path / "other.log"
    process = start_child(broker.command(), log=log)
    try:
        old = start(settings, "old").wait_ready()
        async with open_stream(settings) as before:
            await before.client.apply(list(BUDGETS))
            await before.send(traffic.make("g1", 200))
            await before.until(Topic.SIGNALS, have(traffic.spent))
        history_has(settings, 200)
        old.kill()
        answers = await asyncio.to_thread(
            wait_until, lambda: kafka_answers(broker.bootstrap), timeout_seconds=WITHIN_SECONDS
        )
        assert answers, log.read_text()[-3000:]
        gone = settings.model_copy(update={"kafka_bootstrap": f"{LOOPBACK}:{free_port()}"})
        target = settings.model_copy(update={"kafka_bootstrap": broker.bootstrap})
        planned = await moved(gone, target)
        assert planned.source is None
        assert set(planned.budgets) == {"per-key", "month"}, "from history"
        start(target, "new").wait_ready()
        begun = monotonic()
        async with open_stream(target) as after:
            await after.send(traffic.make("g2", 100))
            await after.until(Topic.SIGNALS, have(traffic.spent))
            print(f"difference 0; whole {monotonic() - begun:.1f} s after the first event in the new cluster")
            report = await compared(target)
            assert report.equal, report.differences
    finally:
        kill_child(process)


async def test_what_a_restored_history_lacks_is_read_again(settings: SinkSettings, start: Start) -> None:
    traffic = Traffic()
    system = start(settings, "only").wait_ready()
    async with open_stream(settings) as stream:
        await stream.client.apply(list(BUDGETS))
        await stream.send(traffic.make("g1", 200))
        await stream.until(Topic.SIGNALS, have(traffic.spent))
        history_has(settings, 200)
        system.sink.kill()
        client = open_client(settings, settings.clickhouse_database)
        # As a backup of before had it. ClickHouse still knows the tokens of what it has lost.
        client.command("ALTER TABLE usage DELETE WHERE offset >= 7 SETTINGS mutations_sync = 1")
        ((left,),) = client.query("SELECT count() FROM usage").result_rows
        client.close()
        assert 0 < left < 200
        begun = monotonic()
        system.sink.start()
        await stream.client.apply([budget(id="later", match={}, period="lifetime", limit_nanousd=10**15)])
        traffic.spent["later|"] = traffic.spent["month|"]
        says(system.sink.log, "was restored to an earlier state")
        await stream.until(Topic.SIGNALS, have(traffic.spent))
        print(f"whole {monotonic() - begun:.1f} s after the sink was started on the restored history")
        history_has(settings, 200)
        report = await compared(settings)
        assert report.equal, report.differences


def history_has(settings: SinkSettings, events: int) -> None:
    """Wait until history has so many events, each once."""
    client = open_client(settings, settings.clickhouse_database)

    def has_all() -> bool:
        ((count,),) = client.query("SELECT count() FROM usage FINAL").result_rows
        assert count <= events
        return bool(count == events)

    try:
        assert wait_until(has_all, timeout_seconds=WITHIN_SECONDS)
    finally:
        client.close()
