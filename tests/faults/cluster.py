"""What an operator's tools do to a cluster: who leads what, moved, and how many copies there must be."""

import asyncio
import contextlib
import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

from spendmeter.kafka.described import DescribeQuorumRequest

TIMEOUT_MS = 10_000
ATTEMPTS = 30
RETRY_SECONDS = 1.0
TOPIC_RESOURCE = 2
SET, DELETE = 0, 1
SCRAM = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
SCRAM_ITERATIONS = 4096
NO_CHANGE = (0, 84)
"""None, and ELECTION_NOT_NEEDED."""

Partitions = Mapping[str, Sequence[Any]]
"""By topic, as aiokafka describes them."""
T = TypeVar("T")
Ask = Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, T]]


class ElectLeadersResponse(Response):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(("partition", Int32), ("error_code", Int16), ("error_message", String("utf-8"))),
                ),
            ),
        ),
    )


class ElectLeadersStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 0
    RESPONSE_TYPE = ElectLeadersResponse
    SCHEMA = Schema(
        ("topics", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))), ("timeout_ms", Int32)
    )


class AlterConfigsResponse(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("type", Int8),
                ("name", String("utf-8")),
            ),
        ),
    )


class AlterConfigsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = AlterConfigsResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("type", Int8),
                ("name", String("utf-8")),
                (
                    "configs",
                    Array(("name", String("utf-8")), ("operation", Int8), ("value", String("utf-8"))),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Asked:
    """A request whose struct is made already: these have one version that both sides know."""

    def __init__(self, made: RequestStruct) -> None:
        self._made = made

    def prepare(self, versions: object) -> RequestStruct:
        return self._made


class AlterScramResponse(Response):  # type: ignore[misc]
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterScramStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = AlterScramResponse
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class Cluster:
    """The brokers of one run. Each call is repeated until the cluster has answered it."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        self._bootstrap = bootstrap
        self._chance = random.Random(seed)

    async def controller(self) -> int:
        """The node that leads the quorum."""

        async def ask(admin: AIOKafkaAdminClient) -> int:
            answer = await admin._send_request(DescribeQuorumRequest())
            _check(answer.error_code)
            ((_, ((_, code, leader, *_),), _),) = answer.topics
            _check(code)
            return int(leader)

        return await self._until_answered(ask)

    async def partitions(self) -> Partitions:
        """Every topic's."""

        async def ask(admin: AIOKafkaAdminClient) -> Partitions:
            return {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}

        return await self._until_answered(ask)

    async def leader_of(self, topic: str) -> int:
        """The node that leads the topic's first partition."""
        (first,) = [p for p in (await self.partitions())[topic] if p["partition"] == 0]
        return int(first["leader"])

    async def in_sync(self) -> bool:
        """Whether every partition has all of its copies."""
        topics = await self.partitions()
        return all(len(p["isr"]) == len(p["replicas"]) for partitions in topics.values() for p in partitions)

    async def deal_leaders(self) -> None:
        """Give every partition another preferred leader, then have all those elected."""

        async def ask(admin: AIOKafkaAdminClient) -> None:
            topics: list[tuple[str, list[tuple[int, list[int], dict[int, bytes]]], dict[int, bytes]]] = []
            for topic in await admin.describe_topics():
                shuffled: list[tuple[int, list[int], dict[int, bytes]]] = [
                    (p["partition"], self._chance.sample(p["replicas"], len(p["replicas"])), {})
                    for p in topic["partitions"]
                ]
                topics.append((topic["topic"], shuffled, {}))
            answer = await admin._send_to_controller(
                AlterPartitionReassignmentsRequest(TIMEOUT_MS, topics, {})
            )
            _check(answer.error_code)

        await self._until_answered(ask)
        await self.elect_preferred()

    async def elect_preferred(self) -> None:
        """Lead every partition from where its topic's configuration wants it."""

        async def ask(admin: AIOKafkaAdminClient) -> None:
            topics = [
                (topic["topic"], [p["partition"] for p in topic["partitions"]])
                for topic in await admin.describe_topics()
            ]
            answer = await admin._send_to_controller(_Asked(ElectLeadersStruct(topics, TIMEOUT_MS)))
            for _, partitions in answer.topics:
                for _, code, _ in partitions:
                    if code not in NO_CHANGE:
                        _check(code)

        await self._until_answered(ask)

    async def set_min_insync(self, topics: Sequence[str], copies: int | None) -> None:
        """How many copies a record of these topics needs; None is as the cluster has it."""
        change = ("min.insync.replicas", DELETE if copies is None else SET, copies and str(copies))

        async def ask(admin: AIOKafkaAdminClient) -> None:
            resources = [(TOPIC_RESOURCE, topic, [change]) for topic in topics]
            answer = await admin._send_to_controller(_Asked(AlterConfigsStruct(resources, False)))
            for code, *_ in answer.resources:
                _check(code)

        await self._until_answered(ask)

    async def set_password(self, user: str, mechanism: str, password: str) -> None:
        """The user's, from now on: who is in stays in, who comes shows the new one."""
        number, digest = SCRAM[mechanism]
        salt = secrets.token_bytes(16)
        salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, SCRAM_ITERATIONS)

        async def ask(admin: AIOKafkaAdminClient) -> None:
            change: tuple[object, ...] = (user, number, SCRAM_ITERATIONS, salt, salted, {})
            answer = await admin._send_to_controller(_Asked(AlterScramStruct([], [change], {})))
            for _, code, *_ in answer.results:
                _check(code)

        await self._until_answered(ask)

    async def _until_answered(self, ask: Ask[T]) -> T:
        for _ in range(ATTEMPTS):
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with _admin(self._bootstrap) as admin:
                    return await ask(admin)
            await asyncio.sleep(RETRY_SECONDS)
        raise TimeoutError(f"the cluster has not answered in {ATTEMPTS} attempts")


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=TIMEOUT_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _check(code: int) -> None:
    if code:
        raise for_code(code)
