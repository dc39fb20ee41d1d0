"""`reconcile` on a live system, and on one whose figures were tampered with."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client
from pydantic import SecretStr

from spendmeter.client import connect
from spendmeter.contract.records import encode_total
from spendmeter.contract.topics import Topic
from spendmeter.contract.total import HISTORY, Total
from spendmeter.contract.usage import UsageEvent
from spendmeter.kafka.client import partition_of, producer
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import says_ready, wait_until
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from spendmeter_sinks.reconcile.command import reconcile as command
from spendmeter_sinks.reconcile.report import (
    ConflictingEvents,
    LostEvents,
    Report,
    SignalDiffers,
    TotalDiffers,
)
from spendmeter_sinks.reconcile.run import reconcile
from spendmeter_sinks.reconcile.scope import WindowFilter
from tests.builders import budget, usage
from tests.integration.stream.conftest import Stream, Worker, open_stream
from tests.patience import WITHIN_SECONDS

READY_WITHIN_SECONDS = 60
SETTLE_SECONDS = 1.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def now_usage(seq: int, cost_nanousd: int = 1_000, **fields: Any) -> UsageEvent:
    now = datetime.now(UTC)
    return usage(seq, cost_nanousd, **{"event_id": uuid4(), "occurred_at": now, "started_at": now, **fields})


class System:
    """A stream worker and a sink as real processes, on topics and a database of their own."""

    def __init__(self, settings: SinkSettings, history: Client, worker: Worker) -> None:
        self.settings = settings
        self.history = history
        self.worker = worker

    def stream(self) -> AbstractAsyncContextManager[Stream]:
        return open_stream(self.settings, self.worker.log)

    async def compare(self, wait_seconds: float = WITHIN_SECONDS) -> Report:
        return await reconcile(
            self.settings, self.history, WindowFilter(), datetime.now(UTC), wait_seconds, SETTLE_SECONDS
        )

    def env(self) -> dict[str, str]:
        return {
            "SPENDMETER_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "SPENDMETER_CLICKHOUSE_URL": self.settings.clickhouse_url,
            "SPENDMETER_CLICKHOUSE_DATABASE": self.settings.clickhouse_database,
            "SPENDMETER_TOPIC_PREFIX": self.settings.topic_prefix,
            "SPENDMETER_SIGNING_KEYS": self.settings.signing_keys.get_secret_value(),
        }


@contextmanager
def running_system(kafka: str, clickhouse: str, directory: Path, signing_keys: str = "") -> Iterator[System]:
    name = f"t{uuid4().hex[:12]}"
    settings = SinkSettings(
        kafka_bootstrap=kafka,
        clickhouse_url=clickhouse,
        topic_prefix=f"{name}.",
        clickhouse_database=name,
        signing_keys=SecretStr(signing_keys),
    )
    asyncio.run(create_topics(settings))
    server = open_client(settings, database=None)
    migrate(server, name)
    server.close()
    history = open_client(settings, database=name)
    worker = Worker(settings, directory, "stream-1", SPENDMETER_SIGNING_KEYS=signing_keys)
    system = System(settings, history, worker)
    port = free_port()
    sink = start_child(
        [sys.executable, "-m", "spendmeter_sinks"],
        log=directory / "sink.log",
        env={**os.environ, **system.env(), "SPENDMETER_METRICS_PORT": str(port)},
    )
    try:
        worker.wait_ready()
        assert wait_until(
            lambda: says_ready(f"http://{LOOPBACK}:{port}/metrics"), timeout_seconds=READY_WITHIN_SECONDS
        ), (directory / "sink.log").read_text()[-3000:]
        yield system
    finally:
        kill_child(worker.process)
        kill_child(sink)
        history.close()


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all tests that tamper: each with producers and keys of its own."""
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("system")) as running:
        yield running


def of_kind(report: Report, kind: Any, about: str) -> list[Any]:
    """The differences of one kind whose account or producer is named so."""
    return [
        d
        for d in report.differences
        if isinstance(d, kind) and about in getattr(d, "account", getattr(d, "producer_id", ""))
    ]


class Traffic:
    """Gateways that send until told to stop: resends, records that cannot be read, late events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._seqs = {f"live-{n}": 0 for n in range(3)}
        self.sent = 0
        self.nanousd = 0

    async def until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            for name in self._seqs:
                await self._chunk(name)
            await asyncio.sleep(0.2)  # the rate of the traffic, not a synchronisation

    async def _chunk(self, name: str) -> None:
        first = self._seqs[name] + 1
        self._seqs[name] += 20
        events = [
            now_usage(seq, seq * 7, producer_id=name, key=f"k{seq % 9}", tags=("a", "b")[: seq % 3])
            for seq in range(first, first + 20)
        ]
        poison = events.pop(first % 20).model_copy(update={"cost_nanousd": -1})
        await self._stream.send(events[:10])
        await self._stream.send_raw(
            Topic.USAGE,
            poison.model_dump_json().encode(),
            key=poison.key.encode(),
            partition=partition_of(poison.key, self._stream.settings.partitions),
        )
        await self._stream.send(events[10:])
        await self._stream.send(events)
        self.sent += len(events)
        self.nanousd += sum(event.cost_nanousd for event in events)


@pytest.fixture
def live(kafka: str, clickhouse: str, tmp_path: Path) -> Iterator[System]:
    with running_system(kafka, clickhouse, tmp_path) as running:
        yield running


async def test_a_live_system_under_traffic_is_equal_at_every_look(live: System) -> None:
    async with live.stream() as stream:
        await stream.client.apply(
            [
                budget(period="hour"),
                budget(id="all", match={}, period="lifetime"),
                budget(id="tags", match={"tag": "*", "gateway": "g1"}, period="PT1M", starts_at=BEGIN),
            ]
        )
        stop, traffic = asyncio.Event(), Traffic(stream)
        flowing = asyncio.create_task(traffic.until(stop))
        try:
            for look in range(3):
                report = await live.compare()
                assert report.equal, report.model_dump_json(indent=2)
                if look == 0:
                    live.worker.kill()
                    live.worker.start()
                if look == 1:
                    await stream.client.reset("all")
        finally:
            stop.set()
            await flowing
        report = await live.compare()
    assert report.equal, report.model_dump_json(indent=2)
    assert report.compared.events == traffic.sent
    assert report.nanousd.recorded == traffic.nanousd
    assert report.nanousd.stream == report.nanousd.history > 0
    assert report.nanousd.signals == report.nanousd.totals > 0
    assert report.compared.producers == 3
    assert report.dead_letters.records == report.dead_letters.with_seq > 0


@asynccontextmanager
async def account(
    system: System, name: str, costs: list[int]
) -> AsyncIterator[tuple[Stream, list[UsageEvent]]]:
    """A budget, producer and key of that name, with events that the stream and history agree on."""
    async with system.stream() as stream:
        await stream.client.apply([budget(id=name, match={"key": name}, period="lifetime")])
        events = [now_usage(n + 1, cost, producer_id=name, key=name) for n, cost in enumerate(costs)]
        await stream.send(events)
        report = await system.compare()
        assert not of_kind(report, TotalDiffers, f"{name}|")
        assert report.compared.accounts > 0
        yield stream, events


def rewrite(system: System, sql: str) -> None:
    system.history.command(sql, settings={"mutations_sync": 2})


async def test_an_event_that_history_has_lost_is_named(system: System) -> None:
    async with account(system, "lost", [10, 20, 30]) as (_, events):
        rewrite(system, f"ALTER TABLE usage DELETE WHERE event_id = '{events[1].event_id}'")
        report = await system.compare()
    assert not report.equal
    (lost,) = of_kind(report, LostEvents, "lost")
    assert (lost.ranges, lost.events) == (((2, 2),), 1)
    (total,) = of_kind(report, TotalDiffers, "lost|")
    assert (total.stream_nanousd, total.history_nanousd) == (60, 40)
    assert (total.stream_events, total.history_events) == (3, 2)
    assert total.missing_in_history.ids == (events[1].event_id,)


async def test_an_event_that_was_never_sent_is_named_by_its_seq(system: System) -> None:
    async with account(system, "skipped", [10]) as (stream, _):
        await stream.send([now_usage(n, 5, producer_id="skipped", key="skipped") for n in (3, 4, 7)])
        report = await system.compare()
    (lost,) = of_kind(report, LostEvents, "skipped")
    assert (lost.ranges, lost.events) == (((2, 2), (5, 6)), 3)
    assert not of_kind(report, TotalDiffers, "skipped")


async def test_an_amount_that_history_has_changed_is_named(system: System) -> None:
    async with account(system, "altered", [10, 20]) as (_, events):
        rewrite(
            system,
            "ALTER TABLE usage UPDATE cost_usd = toDecimal64('0.000000021', 9)"
            f" WHERE event_id = '{events[1].event_id}'",
        )
        report = await system.compare()
    (total,) = of_kind(report, TotalDiffers, "altered|")
    assert (total.stream_nanousd, total.history_nanousd) == (30, 31)
    assert total.altered_in_history.ids == (events[1].event_id,)


async def test_an_event_that_only_history_has_is_named(system: System) -> None:
    async with account(system, "invented", [10, 20]) as (_, events):
        invented = uuid4()
        rewrite(
            system,
            f"INSERT INTO usage SELECT * REPLACE ('{invented}' AS event_id, 3 AS seq)"
            # Within: outside, event_id would mean the replaced one.
            f" FROM (SELECT * FROM usage WHERE event_id = '{events[1].event_id}')",
        )
        report = await system.compare()
    (total,) = of_kind(report, TotalDiffers, "invented|")
    assert (total.stream_nanousd, total.history_nanousd) == (30, 50)
    assert total.unknown_to_kafka.ids == (invented,)


@pytest.mark.parametrize(("name", "claimed", "events_claimed"), [("doubled", 60, 4), ("halved", 10, 1)])
async def test_a_total_that_is_wrong_is_named_with_both_amounts(
    system: System, name: str, claimed: int, events_claimed: int
) -> None:
    async with account(system, name, [10, 20]) as (stream, events):
        totals = await stream.read(Topic.TOTALS)
        (total,) = [t for t in totals if t.account.startswith(f"{name}|") and t.source_partition != HISTORY][
            -1:
        ]
        # Somebody else's event: the forged total may then claim to have come one offset further.
        other = now_usage(1, producer_id=f"beside-{name}", key="beside").model_dump_json().encode()
        await stream.send_raw(Topic.USAGE, other, partition=total.source_partition)
        await send_total(
            stream, total, last_offset=total.last_offset + 1, spent_nanousd=claimed, events=events_claimed
        )
        report = await system.compare()
    (differs,) = of_kind(report, TotalDiffers, f"{name}|")
    assert (differs.stream_nanousd, differs.history_nanousd) == (claimed, 30)
    assert (differs.stream_events, differs.history_events) == (events_claimed, 2)
    if name == "halved":
        # Kafka and history agree, so the stream passed over an event; this one alone explains the amount.
        assert differs.suspects.ids == (events[1].event_id,)


async def test_one_seq_of_two_events_is_a_conflict(system: System) -> None:
    async with account(system, "twice", [10, 20]) as (stream, events):
        other = now_usage(2, 25, producer_id="twice", key="twice")
        await stream.send([other])
        report = await system.compare()
    (conflict,) = of_kind(report, ConflictingEvents, "twice")
    assert conflict.seq == 2
    assert set(conflict.event_ids) == {events[1].event_id, other.event_id}
    assert sorted(conflict.costs_nanousd) == [20, 25]
    # The stream took the second for a resend; history has both.
    (total,) = of_kind(report, TotalDiffers, "twice|")
    assert (total.stream_nanousd, total.history_nanousd) == (30, 55)


async def test_a_budget_made_later_is_not_charged_with_what_came_before(system: System) -> None:
    async with account(system, "early", [10, 20]) as (stream, _):
        await stream.client.apply([budget(id="late-one", match={"key": "early"}, period="lifetime")])
        assert not of_kind(await system.compare(), TotalDiffers, "late-one|")
        await stream.send([now_usage(3, 5, producer_id="early", key="early")])
        report = await system.compare()
    assert not of_kind(report, TotalDiffers, "late-one|")
    assert not of_kind(report, TotalDiffers, "early|")


def test_the_command_prints_the_report_and_exits_1_where_something_differs(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in system.env().items():
        monkeypatch.setenv(name, value)
    asyncio.run(lose_one(system))
    result = CliRunner().invoke(command, ["--json", "--wait", "8"])
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["equal"] is False
    words = CliRunner().invoke(command, ["--wait", "8", "--window", "2020-01-01"])
    assert words.exit_code == 1
    assert "producer cli: 1 events lost, seq 1" in words.stdout


async def lose_one(system: System) -> None:
    async with system.stream() as stream:
        await stream.send([now_usage(2, 5, producer_id="cli", key="cli")])


async def test_an_account_that_the_stream_does_not_have_is_named(system: System) -> None:
    async with system.stream() as stream:
        await stream.client.apply([budget(id="gone", match={"user": "*"}, period="lifetime")])
        partition = partition_of("gone", system.settings.partitions)
        await stream.send([now_usage(1, 7, producer_id="gone", key="gone", user="ann")])
        await stream.send([now_usage(2, 8, producer_id="gone", key="gone", user="bob")])
        assert not of_kind(await system.compare(), TotalDiffers, "gone|")
        (bob,) = [t for t in await stream.read(Topic.TOTALS) if t.account == "gone|user=bob"]
        name = system.settings.topic(Topic.TOTALS)
        at = partition_of(bob.account, system.settings.partitions)
        await stream._kafka.send_and_wait(name, key=bob.key().encode(), value=None, partition=at)
        report = await system.compare(wait_seconds=4)
    (differs,) = of_kind(report, TotalDiffers, "gone|user=bob")
    assert (differs.first_offset, differs.source_partition) == (None, partition)
    assert (differs.stream_nanousd, differs.history_nanousd) == (0, 8)
    assert not of_kind(report, TotalDiffers, "gone|user=ann")
    (mistold,) = of_kind(report, SignalDiffers, "gone|user=bob")
    assert mistold.signal_nanousd == 8


def test_what_cannot_be_compared_exits_2_with_the_fix(
    kafka: str, clickhouse: str, database: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SinkSettings(
        kafka_bootstrap=kafka, clickhouse_url=clickhouse, topic_prefix=topic_prefix,
        clickhouse_database=database,
    )  # fmt: skip
    for name, value in System(settings, None, None).env().items():  # type: ignore[arg-type]
        monkeypatch.setenv(name, value)
    no_database = CliRunner().invoke(command, [])
    assert no_database.exit_code == 2
    assert "migrate" in no_database.output
    server = open_client(settings, database=None)
    migrate(server, database)
    server.close()
    no_topics = CliRunner().invoke(command, ["--wait", "2"])
    assert no_topics.exit_code == 2
    assert "has no topic" in no_topics.output
    asyncio.run(send_unread(settings))
    no_stream = CliRunner().invoke(command, ["--wait", "1"])
    assert no_stream.exit_code == 2
    assert "the stream has not read" in no_stream.output


async def send_unread(settings: SinkSettings) -> None:
    await create_topics(settings)
    writer = producer(settings)
    await writer.start()
    async with connect(settings) as client:
        await Stream(settings, writer, client).send([now_usage(1)])
    await writer.stop()


async def send_total(stream: Stream, total: Total, **changed: Any) -> None:
    forged = encode_total(total.model_copy(update=changed), datetime.now(UTC))
    at = partition_of(total.account, stream.settings.partitions)
    await stream.send_raw(Topic.TOTALS, forged.value, key=forged.key, headers=forged.headers, partition=at)
