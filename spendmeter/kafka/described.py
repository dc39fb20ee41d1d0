"""What the brokers say of the cluster, beyond what aiokafka 0.14 asks: its requests are defined here.

Topic ids and what a client may do (KIP-516, KIP-430) need version 10 of the metadata request; aiokafka has
up to 5. It reads what is said of a group in version 3 as version 2, and lacks the request whose answer has a
node's clock (KIP-836).
"""

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_ID_BYTES = 16
NO_TOPIC_ID = bytes(_ID_BYTES)


class _TopicId(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_ID_BYTES)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _TopicId),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _TopicId), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class DetailedMetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    """Metadata of these topics with their ids and, if wanted, what this client may do with each."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str], *, with_operations: bool = False) -> None:
        self._topics, self._with_operations = topics, with_operations

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        topics: list[Any] = [(NO_TOPIC_ID, name, {}) for name in self._topics]
        return request_struct_class(topics, False, self._with_operations, self._with_operations, {})


class Operation(IntEnum):
    """What an ACL allows, by Kafka's codes."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10


class PartitionCopies(NamedTuple):
    """Where a partition is: -1 for a leader that there is none of."""

    leader: int
    replicas: Sequence[int]
    in_sync: Sequence[int]


class DescribedTopic(NamedTuple):
    """A topic as this client sees it; with an `error` the rest says nothing."""

    error: type[KafkaError] | None
    partitions: Sequence[PartitionCopies]
    allowed: frozenset[Operation]


class DescribedCluster(NamedTuple):
    """The brokers, by host and port, and what this client may do."""

    brokers: Sequence[tuple[str, int]]
    topics: Mapping[str, DescribedTopic]
    allowed: frozenset[Operation]
    """With the cluster as a whole."""


class GroupMember(NamedTuple):
    """One process of a group."""

    client: str
    """`component@host`."""
    address: str


class DescribedGroup(NamedTuple):
    """A consumer group."""

    state: str
    """Kafka's: Stable, Empty, PreparingRebalance, …; Dead: there is none of that name."""
    members: list[GroupMember]


async def describe_cluster(admin: AIOKafkaAdminClient, topics: Collection[str]) -> DescribedCluster:
    """The cluster and these topics, with the rights of this client. `admin` is started.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    request = DetailedMetadataRequest(sorted(topics), with_operations=True)
    answer = (await _ask(admin, request)).to_object()
    return DescribedCluster(
        [(broker["host"], broker["port"]) for broker in answer["brokers"]],
        {topic["topic"]: _topic(topic) for topic in answer["topics"]},
        _operations(answer["cluster_authorized_operations"]),
    )


async def rights_on_group(admin: AIOKafkaAdminClient, group: str) -> frozenset[Operation]:
    """What this client may do with a consumer group, whether or not there is one.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached; or it refuses, as for a group that this
            client may not even see.
    """
    return _operations((await _group(admin, group))["authorized_operations"])


async def describe_group(admin: AIOKafkaAdminClient, group: str) -> DescribedGroup:
    """What a consumer group does now, whether or not there is one.

    Raises:
        aiokafka.errors.KafkaError: as for `rights_on_group`.
    """
    found = await _group(admin, group)
    members = [GroupMember(one["client_id"], one["client_host"].lstrip("/")) for one in found["members"]]
    return DescribedGroup(found["state"], members)


async def controller_time_ms(admin: AIOKafkaAdminClient) -> int | None:
    """The clock of the active controller, in milliseconds since 1970; None if it shows none (ZooKeeper).

    Nothing is written.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached, or refuses: this needs DESCRIBE on the
            cluster.
    """
    try:
        answer = (await _ask(admin, DescribeQuorumRequest())).to_object()
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None
    if answer["error_code"]:
        raise for_code(answer["error_code"])("the quorum of controllers")
    [partition] = answer["topics"][0]["partitions"]
    if partition["error_code"]:
        raise for_code(partition["error_code"])("the quorum of controllers")
    # The leader answers, and is caught up with itself at this moment.
    times = [
        voter["last_caught_up_ms"]
        for voter in partition["voters"]
        if voter["replica_id"] == partition["leader_id"]
    ]
    return times[0] if times and times[0] > 0 else None


async def _ask(admin: AIOKafkaAdminClient, request: Request[Any]) -> Any:
    return await admin._client.send(admin._client.get_random_node(), request)


async def _group(admin: AIOKafkaAdminClient, group: str) -> Mapping[str, Any]:
    node = await admin.find_coordinator(group)
    answer = await admin._client.send(node, _GroupRequest(group))
    [found] = answer.to_object()["groups"]
    if found["error_code"]:
        raise for_code(found["error_code"])(group)
    described: Mapping[str, Any] = found
    return described


def _topic(answer: Mapping[str, Any]) -> DescribedTopic:
    error = for_code(answer["error_code"]) if answer["error_code"] else None
    copies = [PartitionCopies(one["leader"], one["replicas"], one["isr"]) for one in answer["partitions"]]
    return DescribedTopic(error, copies, _operations(answer["authorized_operations"]))


def _operations(bits: int) -> frozenset[Operation]:
    # The smallest number means that the broker does not say.
    return frozenset(one for one in Operation if bits >= 0 and bits >> one & 1)


class _GroupStruct(DescribeGroupsRequest_v3):  # type: ignore[misc]
    # aiokafka's own reads the answer as one of version 2, which has no rights, and breaks off.
    RESPONSE_TYPE = DescribeGroupsResponse_v3


class _GroupRequest(Request[_GroupStruct]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_GroupStruct]) -> _GroupStruct:
        return request_struct_class([self._group], True)


_VOTERS = CompactArray(
    ("replica_id", Int32),
    ("log_end_offset", Int64),
    ("last_fetch_ms", Int64),
    ("last_caught_up_ms", Int64),
    ("tags", TaggedFields),
)


class _QuorumResponse(Response):  # type: ignore[misc]
    API_KEY = 55
    API_VERSION = 1
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader_id", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", _VOTERS),
                        ("observers", _VOTERS),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _QuorumStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 55
    API_VERSION = 1
    RESPONSE_TYPE = _QuorumResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeQuorumRequest(Request[_QuorumStruct]):  # type: ignore[misc]
    """Who leads the quorum of controllers, and how far each of them is."""

    API_KEY = 55

    def build(self, request_struct_class: type[_QuorumStruct]) -> _QuorumStruct:
        return request_struct_class([("__cluster_metadata", [(0, {})], {})], {})
