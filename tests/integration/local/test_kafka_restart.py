"""A broker killed with -9 keeps what it acknowledged, and may come back on other ports."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.patience import WITHIN_SECONDS

RECORDS = [str(number).encode() for number in range(1000)]
TOPIC = "kept"


@contextmanager
def running(broker: Broker) -> Iterator[str]:
    """Its bootstrap servers; killed with -9 at the end."""
    broker.prepare()
    log = broker.data_dir / "kafka.log"
    process = start_child(broker.command(), log=log)
    try:
        assert wait_until(lambda: kafka_answers(broker.bootstrap), timeout_seconds=WITHIN_SECONDS), (
            log.read_text()
        )
        yield broker.bootstrap
    finally:
        kill_child(process)


async def produce(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for record in RECORDS:
            await producer.send(TOPIC, record)


async def consume(bootstrap: str) -> list[bytes]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in RECORDS]


def test_a_killed_broker_keeps_its_records_even_on_other_ports(tmp_path: Path) -> None:
    ports = [free_port()]
    while len(ports) < 4:
        ports.append(free_port(ports))
    broker = Broker(tmp_path, ports[0], ports[1])
    with running(broker) as bootstrap:
        asyncio.run(produce(bootstrap))
    with running(replace(broker, port=ports[2], controller_port=ports[3])) as bootstrap:
        assert asyncio.run(consume(bootstrap)) == RECORDS
