"""A group's coordinator has moved: who asks the one before it does not hear that nothing was committed."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from spendmeter.kafka.client import connection, consumer
from spendmeter.kafka.committed import committed
from spendmeter.settings import Settings
from spendmeter.topics.create import create
from spendmeter_local.ports import free_port
from tests.cluster.nodes import kill_all, one_that_rules
from tests.faults.tcp_proxy import LinkPorts
from tests.patience import WITHIN_SECONDS

GROUP = "moved"
HERE = TopicPartition("read", 0)
AT = OffsetAndMetadata(7, "a plan")


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two nodes that copy from one another directly."""
    ports: list[int] = []
    for _ in range(2):
        ports.append(free_port(ports))
    nodes = one_that_rules(tmp_path_factory.mktemp("nodes"), [LinkPorts("", p, p) for p in ports], "")
    try:
        for node in nodes:
            node.start()
        yield nodes[0].broker.bootstrap
    finally:
        kill_all(nodes)


@pytest.fixture
async def settings(bootstrap: str) -> Settings:
    """A topic of which the group has read some."""
    made = Settings(kafka_bootstrap=bootstrap)
    await create(made, {HERE.topic: (1, {})})
    reader = consumer(made, group=GROUP)
    await reader.start()
    reader.assign([HERE])
    await reader.commit({HERE: AT})
    await reader.stop()
    return made


@pytest.fixture
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    made = AIOKafkaAdminClient(**connection(settings))
    await made.start()
    yield made
    await made.close()


async def _other_than_the_coordinator(admin: AIOKafkaAdminClient) -> int:
    right = await admin.find_coordinator(GROUP)
    wrong: int = next(node.nodeId for node in admin._client.cluster.brokers() if node.nodeId != right)
    return wrong


async def test_who_asks_for_a_groups_offsets_hears_of_them_or_of_an_error(
    admin: AIOKafkaAdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = await admin.find_coordinator(GROUP), await _other_than_the_coordinator(admin)
    answers: Iterator[int] = iter([wrong, wrong, right])

    async def stale(group: str) -> int:
        """What a broker says that has not heard of the move yet."""
        return next(answers)

    monkeypatch.setattr(admin, "find_coordinator", stale)
    assert await committed(admin, GROUP, [HERE, TopicPartition(HERE.topic, 1)]) == {HERE: AT}
    assert next(answers, None) is None, "all three were asked"


async def test_a_consumer_whose_coordinator_has_moved_goes_on_where_it_was(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    wrong = await _other_than_the_coordinator(admin)
    reader: AIOKafkaConsumer = consumer(settings, group=GROUP)
    await reader.start()
    try:
        reader.assign([HERE])
        await reader._coordinator.ensure_coordinator_known()
        reader._coordinator.coordinator_id = wrong
        async with asyncio.timeout(WITHIN_SECONDS):
            assert await reader.committed(HERE) == AT.offset
    finally:
        await reader.stop()
