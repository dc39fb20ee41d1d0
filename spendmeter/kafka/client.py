"""How every process makes its Kafka clients, and which partition a key goes to.

Rooms that only use a client import its types and errors from here; only a few import aiokafka itself.
"""

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer as AIOKafkaConsumer
from aiokafka import AIOKafkaProducer as AIOKafkaProducer
from aiokafka import TopicPartition as TopicPartition
from aiokafka.admin import AIOKafkaAdminClient as AIOKafkaAdminClient
from aiokafka.errors import KafkaError as KafkaError
from aiokafka.errors import KafkaTimeoutError as KafkaTimeoutError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata

from spendmeter.contract.records import Record
from spendmeter.contract.signing import SIGNATURE, SIGNATURE_BYTES, SigningKeys
from spendmeter.kafka.committed import heed_each_partitions_error
from spendmeter.kafka.fetch import read_any_header
from spendmeter.settings import Settings, read_password, show_certificate

MAX_BATCH_BYTES = 512 * 1024
"""The size of a producer's batch before compression; a single larger record also makes a batch."""
MAX_RECORD_BYTES = 1_000_000
"""The record size, with Kafka's overhead, that fits every topic of ours, unless a topic was created with less
than Kafka's default max.message.bytes. tests/unit/spendmeter/contract/test_record_sizes.py checks the bounds.
"""
# More than Kafka's overhead for a batch, a record and a header: lengths, times, offsets.
_BATCH_FRAME_BYTES, _RECORD_FRAME_BYTES, _HEADER_FRAME_BYTES = 64, 40, 10
_HALF_MADE_SECONDS = 1.0
# A group's member does not poll while ClickHouse or a receiver is away, and must not lose its partitions for
# that: only the session timeout (heartbeats come from the event loop) decides whether it is alive.
_MAX_POLL_INTERVAL_MS = 24 * 3_600_000
MAX_SIGNATURE_BYTES = _HEADER_FRAME_BYTES + len(SIGNATURE) + SIGNATURE_BYTES


def connection(settings: Settings) -> dict[str, Any]:
    """The arguments that each aiokafka client of this process needs to reach the cluster."""
    heed_each_partitions_error()
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "client_id": settings.client_id,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        cafile = str(settings.kafka_ssl_cafile) if settings.kafka_ssl_cafile else None
        context = arguments["ssl_context"] = ssl.create_default_context(cafile=cafile)
        if settings.kafka_ssl_certfile is not None:
            show_certificate(
                context,
                settings.kafka_ssl_certfile,
                settings.kafka_ssl_keyfile,
                settings.kafka_ssl_key_password,
            )
    if settings.kafka_security_protocol.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return arguments


class PasswordInFile(str):
    """A password that is read again for each connection.

    aiokafka keeps one object as long as a client lives, and reads its bytes for each SCRAM exchange. So our
    clients survive a rotation. (PLAIN uses the broker's own list, which needs a restart of the broker.)
    """

    __slots__ = ("path",)
    path: Path

    @classmethod
    def at(cls, path: Path) -> "PasswordInFile":
        """Raises ValueError if the file cannot be read now."""
        password = cls(read_password(path))
        password.path = path
        return password

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        try:
            return read_password(self.path).encode(encoding, errors)
        except ValueError as error:
            # aiokafka treats this error as a failed connection and retries.
            raise OSError(f"{self.path}: {error}") from error


def _password(settings: Settings) -> str:
    if settings.kafka_sasl_password_file is not None:
        return PasswordInFile.at(settings.kafka_sasl_password_file)
    assert settings.kafka_sasl_password is not None, "the settings refuse SASL without a password"
    return settings.kafka_sasl_password.get_secret_value()


def producer(settings: Settings, *, linger_ms: int = 0, compression: str = "lz4") -> AIOKafkaProducer:
    """A producer whose acknowledgement means: stored on every in-sync replica, once, in order.

    aiokafka uses lz4 at its slowest level. For many writes, small batches included, snappy needs
    a tenth of the time for a third more bytes.
    """
    return AIOKafkaProducer(
        **connection(settings),
        acks="all",
        enable_idempotence=True,
        compression_type=compression,
        linger_ms=linger_ms,
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=4 * 1024 * 1024,
        request_timeout_ms=10_000,
    )


def consumer(
    settings: Settings, *, group: str | None = None, fetch_max_wait_ms: int = 50, **more: Any
) -> AIOKafkaConsumer:
    """A consumer that starts at the beginning and commits only explicitly.

    fetch_max_wait_ms bounds how long the broker holds an empty fetch, and so how long a
    partition without new records can delay another one on the same broker. `more` are aiokafka's own options.
    """
    read_any_header()
    return AIOKafkaConsumer(
        **connection(settings),
        group_id=settings.topic_prefix + group if group else None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
        fetch_max_wait_ms=fetch_max_wait_ms,
        fetch_max_bytes=32 * 1024 * 1024,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        **more,
    )


def admin_client(settings: Settings) -> AIOKafkaAdminClient:
    """A client that queries and creates topics, and queries groups."""
    return AIOKafkaAdminClient(**connection(settings))


def record_bytes(key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> int:
    """An upper bound of a record's bytes within its batch, uncompressed."""
    size = _RECORD_FRAME_BYTES + len(key) + len(value or b"")
    for name, text in headers:
        size += _HEADER_FRAME_BYTES + len(name.encode()) + len(text or b"")
    return size


def batch_of(records: Iterable[Record], more_bytes_each: int = 0) -> list[Record]:
    """The first of these records: as many as surely fit one batch, and at least one.

    `more_bytes_each`: for headers that each record still gets.
    """
    batch: list[Record] = []
    left_bytes = MAX_BATCH_BYTES - _BATCH_FRAME_BYTES
    for record in records:
        left_bytes -= record_bytes(record.key, record.value, record.headers) + more_bytes_each
        if batch and left_bytes < 0:
            break
        batch.append(record)
    return batch


@lru_cache(maxsize=200_000)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, according to Kafka's default partitioner.

    spend.totals is keyed by component but placed by account with this function, so that all
    components of an account meet in one partition, and in the same number as its signal.
    """
    return partition_of_key(key.encode(), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The same for a key's bytes."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions


class Client(Protocol):
    """Any of aiokafka's clients."""

    async def start(self) -> None: ...


async def start(client: Client) -> None:
    """Start it. A cancellation is delayed for a moment, because aiokafka would leak a half-made connection.

    Raises:
        KafkaError: the broker cannot be reached or refuses.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=_HALF_MADE_SECONDS)
        starting.cancel()
        raise


async def queue_signed(
    kafka: AIOKafkaProducer,
    keys: SigningKeys,
    topic: str,
    key: bytes,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> "asyncio.Future[RecordMetadata]":
    """Queue the record in its key's partition: done once every in-sync replica has it. Raises KafkaError."""
    # A signature names the partition, so that a copy elsewhere is not valid.
    partition = partition_of_key(key, len(await kafka.partitions_for(topic)))
    signature = keys.sign(topic, partition, key, value, headers)
    queued: asyncio.Future[RecordMetadata] = await kafka.send(
        topic, key=key, value=value, headers=[*headers, *signature], partition=partition
    )
    return queued
