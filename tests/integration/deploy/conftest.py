"""A broker that lets nobody do anything but what deploy/kubernetes/examples grants to each user."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.kafka.jars import LOCAL, fetch_jars
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.deployment import DEPLOY

USERS = DEPLOY / "kubernetes/examples/kafka-users.yaml"
PASSWORD = "of-everybody"
READY_WITHIN_SECONDS = 240

# As Kafka's protocol numbers them.
RESOURCES = {"topic": 2, "group": 3}
PATTERNS = {"literal": 3, "prefix": 4}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
ALLOW = 3


def grants() -> Iterator[tuple[int, str, int, str, str, int, int]]:
    """Each line of each KafkaUser, as Strimzi asks Kafka for it."""
    for user in yaml.safe_load_all(USERS.read_text(encoding="utf-8")):
        for acl in user["spec"]["authorization"]["acls"]:
            of = acl["resource"]
            for operation in acl["operations"]:
                yield (
                    RESOURCES[of["type"]],
                    of["name"],
                    PATTERNS[of["patternType"]],
                    f"User:{user['metadata']['name']}",
                    "*",
                    OPERATIONS[operation],
                    ALLOW,
                )


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """Bootstrap servers of its listener with users, whose password is PASSWORD."""
    fetch_jars(release=LOCAL)
    plain, controller, sasl = free_port(), free_port(), free_port()
    names = [user["metadata"]["name"] for user in yaml.safe_load_all(USERS.read_text(encoding="utf-8"))]
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in names)
    more = f"""
listeners=PLAINTEXT://{LOOPBACK}:{plain},SASL_PLAINTEXT://{LOOPBACK}:{sasl},CONTROLLER://{LOOPBACK}:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# The broker itself, and the test that grants.
super.users=User:ANONYMOUS
broker.session.timeout.ms=600000
"""
    broker = Broker(tmp_path / "guarded-kafka", plain, controller, more_properties=more)
    broker.prepare()
    process = start_child(broker.command(), log=broker.data_dir / "kafka.log")
    try:
        ready = wait_until(lambda: kafka_answers(broker.bootstrap), timeout_seconds=READY_WITHIN_SECONDS)
        assert ready, (broker.data_dir / "kafka.log").read_text()[-3000:]
        asyncio.run(_grant(broker.bootstrap))
        yield f"{LOOPBACK}:{sasl}"
    finally:
        kill_child(process)


async def _grant(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for grant in grants():
            answer = await admin._send_request(CreateAclsRequest(*grant))
            assert [code for code, _ in answer.creation_responses] == [0], answer
    finally:
        await admin.close()
