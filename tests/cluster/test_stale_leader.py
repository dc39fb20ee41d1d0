"""A new leader that does not know yet how much of its log was acknowledged: nothing is taken for lost."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from spendmeter.contract.records import encode_usage
from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import connection, producer
from spendmeter.kafka.groups import SINK_GROUP
from spendmeter.topics.create import create_topics
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_sinks.clickhouse.writer import open_client
from spendmeter_sinks.database.migrate import migrate
from tests.builders import usage
from tests.cluster.nodes import Node, kill_all, one_that_rules
from tests.faults.cluster import Cluster
from tests.faults.tcp_proxy import Link, LinkPorts

EVENTS = 50
WITHIN_SECONDS = 120
LOOK_SECONDS = 0.1
# A node writes down how much is acknowledged every 5 s: here, not before it is killed.
NEVER_WRITES_IT_DOWN = "replica.high.watermark.checkpoint.interval.ms=3600000\n"
USAGE = TopicPartition(Topic.USAGE.value, 0)


class SinkProcess:
    """A sink that is no static member, so that its group is empty once it has left."""

    def __init__(self, settings: SinkSettings, log: Path) -> None:
        self.log, self.port = log, free_port()
        env = {
            "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
            "SPENDMETER_CLICKHOUSE_URL": settings.clickhouse_url,
            "SPENDMETER_CLICKHOUSE_DATABASE": settings.clickhouse_database,
            "SPENDMETER_METRICS_PORT": str(self.port),
        }
        command = [sys.executable, "-m", "spendmeter_sinks"]
        self.process: subprocess.Popen[bytes] = start_child(command, log=log, env={**os.environ, **env})

    async def has_read(self, partition: TopicPartition) -> bool:
        """Whether it has had an answer about that partition."""
        label = f'spendmeter_sink_lag_records{{partition="{partition.partition}",topic="{partition.topic}"}}'
        try:
            async with aiohttp.ClientSession() as http, http.get(f"http://{LOOPBACK}:{self.port}") as page:
                return label in await page.text()
        except aiohttp.ClientError:
            return False


async def test_a_planned_insert_is_repeated_whatever_a_new_leader_knows(
    clickhouse: str, tmp_path: Path
) -> None:
    async with _link(free_port()) as one, _link(free_port([one.ports.target])) as other:
        nodes = one_that_rules(tmp_path, [one.ports, other.ports], NEVER_WRITES_IT_DOWN)
        try:
            await _repeated_whatever_it_knows(nodes, [one, other], clickhouse, tmp_path)
        finally:
            kill_all(nodes)


async def _repeated_whatever_it_knows(
    nodes: list[Node], copying: list[Link], clickhouse: str, tmp_path: Path
) -> None:
    first, second = nodes
    name = f"t{uuid4().hex[:12]}"
    await asyncio.to_thread(first.start)
    kafka = SinkSettings(
        kafka_bootstrap=first.broker.bootstrap, clickhouse_database=name, partitions=1, replication=2
    )
    # While there is one node only: the group's own partitions stay on the one that goes on.
    await _until(lambda: _has_groups(kafka))
    await asyncio.to_thread(second.start)
    await create_topics(kafka)
    cluster = Cluster(first.broker.bootstrap, 0)
    await cluster.set_min_insync([USAGE.topic], 2)

    before, _, engine_port = clickhouse.rpartition(":")
    async with _link(int(engine_port)) as to_history:
        settings = kafka.model_copy(update={"clickhouse_url": f"{before}:{to_history.ports.listen}"})
        # Its own client goes straight to the engine: through the link it would wait for itself.
        direct = kafka.model_copy(update={"clickhouse_url": clickhouse})
        with open_client(direct, database=None) as history:
            migrate(history, name)
            history.command(f"SYSTEM STOP MERGES {name}.usage")
            sink = SinkProcess(settings, tmp_path / "first.log")
            try:
                await _until(lambda: sink.has_read(USAGE))
                to_history.set("stall")
                await _send(settings, range(1, EVENTS + 1))
                planned = await _plan(settings)
                to_history.set("open")
                count = f"SELECT count() FROM {name}.usage"
                await _until(lambda: _is(history.query(count).result_rows == [(EVENTS,)]))
                sink.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(sink.process.wait, WITHIN_SECONDS)
            finally:
                kill_child(sink.process)
            # As if it had died between the insert and the next commit.
            await _commit(settings, planned)

            kill_all(nodes)
            # Both have died at once. One leads again, and the other cannot reach it yet.
            for link in copying:
                link.set("refuse")
            for node in nodes:
                await asyncio.to_thread(node.start)
            await _until(lambda: _is_led(cluster))
            sink = SinkProcess(settings, tmp_path / "second.log")
            try:
                await _until(lambda: sink.has_read(USAGE))
                for link in copying:
                    link.set("open")
                await _send(settings, [EVENTS + 1])
                await _until(lambda: _is(history.query(count).result_rows[0][0] > EVENTS))
                said = sink.log.read_text()
            finally:
                kill_child(sink.process)
            assert "repeating" in said
            assert "has lost records" not in said
            assert history.query(count).result_rows == [(EVENTS + 1,)], "each row once, before any merge"


@asynccontextmanager
async def _link(target: int) -> AsyncIterator[Link]:
    """A way to a port of loopback that the test may cut."""
    link = Link(LinkPorts("link", free_port([target]), target))
    serving = asyncio.create_task(link.serve())
    try:
        yield link
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _send(settings: SinkSettings, numbers: range | list[int]) -> None:
    async with producer(settings) as kafka:
        for number in numbers:
            record = encode_usage(usage(number, number))
            await kafka.send_and_wait(
                USAGE.topic, key=record.key, value=record.value, headers=record.headers, partition=0
            )


async def _committed(settings: SinkSettings) -> OffsetAndMetadata | None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(SINK_GROUP, partitions=[USAGE])
    finally:
        await admin.close()
    return found.get(USAGE)


async def _has_groups(settings: SinkSettings) -> bool:
    try:
        await _committed(settings)
    except KafkaError:
        return False
    return True


async def _plan(settings: SinkSettings) -> OffsetAndMetadata:
    """What stands in Kafka while the insert is under way."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            found = await _committed(settings)
            if found is not None and "planned_last" in found.metadata:
                return found
            await asyncio.sleep(LOOK_SECONDS)


async def _commit(settings: SinkSettings, what: OffsetAndMetadata) -> None:
    reader = AIOKafkaConsumer(**connection(settings), group_id=SINK_GROUP, enable_auto_commit=False)
    await reader.start()
    try:
        reader.assign([USAGE])
        await reader.commit({USAGE: OffsetAndMetadata(what.offset, what.metadata)})
    finally:
        await reader.stop()


async def _is_led(cluster: Cluster) -> bool:
    return await cluster.leader_of(USAGE.topic) >= 0


async def _is(holds: bool) -> bool:
    return holds


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(LOOK_SECONDS)
