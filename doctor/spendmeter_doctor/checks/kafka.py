"""Kafka: each server, the brokers' version, topics, copies, rights and clock. Nothing is written."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import KafkaError, admin_client, connection, start
from spendmeter.kafka.described import DescribedCluster, controller_time_ms, describe_cluster
from spendmeter.kafka.errors import bootstrap_servers, explained, why_server_fails
from spendmeter.runtime.supported import warning_of_kafka
from spendmeter.settings import Settings
from spendmeter.topics.check import check_topics, topic_configs
from spendmeter_doctor.checks.clocks import of_clock
from spendmeter_doctor.checks.rights import of_groups, of_topics, wanted_topics
from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, fault, of_sentence, unchecked, warning
from spendmeter_doctor.system import Process, System

SERVER_WITHIN_SECONDS = 12.0
CERTIFICATE_DAYS = 14
_DAY_SECONDS = 86_400
_MIN_INSYNC = "min.insync.replicas"
_LOCAL = ("127.0.0.1", "localhost", "::1")


def check_kafka(system: System) -> list[Diagnosis]:
    """Everything about Kafka; if no server answers, only why."""
    return asyncio.run(_check(system))


async def _check(system: System) -> list[Diagnosis]:
    settings = system.settings
    servers = bootstrap_servers(settings)
    reasons = await asyncio.gather(*(_why_fails(settings, *server) for server in servers))
    if all(reasons):
        said = reasons[0] or ""
        return [of_sentence(FindingSeverity.FAULT, "kafka-unreachable", said)]
    found = [of_sentence(FindingSeverity.WARNING, "kafka-server-unreachable", why) for why in reasons if why]
    found += await _certificates(settings, [at for at, why in zip(servers, reasons, strict=True) if not why])
    try:
        return [*found, *await _inside(system)]
    except KafkaError as error:
        return [*found, of_sentence(FindingSeverity.FAULT, "kafka-refuses", await explained(error, settings))]


async def _why_fails(settings: Settings, host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(SERVER_WITHIN_SECONDS):
            return await why_server_fails(settings, host, port)
    except TimeoutError:
        return (
            f"nothing answers at {host}:{port} within {SERVER_WITHIN_SECONDS:g} s; correct"
            " SPENDMETER_KAFKA_BOOTSTRAP, or let the connection through the firewall"
        )


async def _inside(system: System) -> list[Diagnosis]:
    settings = system.settings
    found: list[Diagnosis] = []
    if (said := await warning_of_kafka(settings)) is not None:
        found.append(of_sentence(FindingSeverity.WARNING, "kafka-version", said))
    admin = admin_client(settings)
    try:
        await start(admin)
        wanted = wanted_topics(system)
        cluster = await describe_cluster(admin, {*wanted, *map(settings.topic, Topic)})
        seen = {name for name, topic in cluster.topics.items() if topic.error is None}
        copies = await topic_configs(admin, seen, [_MIN_INSYNC])
        found += of_topics(system, cluster)
        found += await of_groups(system, admin)
        found += _of_copies(settings, cluster, copies)
        found += await _of_clock(system, admin)
    finally:
        await admin.close()
    ours = [topic for topic in Topic if not _is_hidden(cluster, settings.topic(topic))]
    anybody = not system.processes & {Process.STREAM}
    checked = await check_topics(settings, ours, whatever_partitions=anybody)
    for one in checked.findings:
        severity = FindingSeverity.FAULT if one.is_fatal else FindingSeverity.WARNING
        found.append(of_sentence(severity, one.code, one.sentence))
    return found


def _is_hidden(cluster: DescribedCluster, name: str) -> bool:
    error = cluster.topics[name].error
    return error is not None and "Authorization" in error.__name__


def _of_copies(
    settings: Settings, cluster: DescribedCluster, configs: Mapping[str, Mapping[str, str] | None]
) -> Iterator[Diagnosis]:
    """Whether an acknowledged record survives a node, and whether a node may be away."""
    several = len(cluster.brokers) > 1 or cluster.brokers[0][0] not in _LOCAL
    single: list[str] = []
    for name, topic in sorted(cluster.topics.items()):
        if topic.error is not None:
            continue
        copies = min((len(one.replicas) for one in topic.partitions), default=1)
        least = int((configs.get(name) or {}).get(_MIN_INSYNC, 1))
        lacking = [n for n, one in enumerate(topic.partitions) if len(one.in_sync) < len(one.replicas)]
        if any(one.leader < 0 for one in topic.partitions):
            yield fault(
                "topic-no-leader",
                f"a partition of {name} has no leader, so nothing can be written to it or read from it",
                "start the brokers that hold its copies; `kafka-topics.sh --describe"
                " --unavailable-partitions`",
            )
        elif lacking:
            yield warning(
                "topic-copies-behind",
                f"{name} has copies that are not in sync (partitions {', '.join(map(str, lacking))})",
                "wait until they are, or start the broker that is away:"
                " `kafka-topics.sh --describe --under-replicated-partitions`",
            )
        if least > copies:
            yield fault(
                "topic-min-insync",
                f"{name} has {_MIN_INSYNC}={least} and {copies} copies: no record is ever acknowledged",
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {name}"
                f" --add-config {_MIN_INSYNC}={max(1, copies - 1)}`",
            )
        elif copies > 1 and least != copies - 1 and least < 2:
            yield warning(
                "topic-min-insync",
                f"{name} has {copies} copies and {_MIN_INSYNC}={least}: what one broker acknowledged"
                " alone is"
                " lost with its disk",
                f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config"
                f" {_MIN_INSYNC}=2`",
            )
        if copies < settings.replication or (copies == 1 and several):
            single.append(name)
    if single:
        wanted = max(settings.replication, 3)
        yield warning(
            "topic-replication",
            f"fewer copies than they should have: {', '.join(single)}: records are lost with a disk",
            f"create topics with SPENDMETER_REPLICATION={wanted} (`spendmeter topics`); add copies"
            " to those that"
            " are there with `kafka-reassign-partitions.sh`",
        )


async def _of_clock(system: System, admin: object) -> list[Diagnosis]:
    before = system.clock()
    try:
        theirs = await controller_time_ms(admin)
    except KafkaError:
        theirs = None
    if theirs is None:
        return [
            unchecked(
                "clock-kafka",
                "the clock of Kafka was not compared: it shows it to whoever may DESCRIBE the"
                " cluster, under KRaft",
                "grant DESCRIBE on the cluster to this user, or compare `date` on the brokers with NTP",
            )
        ]
    return of_clock("Kafka's controller", "clock-kafka", theirs / 1000, before, system.clock())


async def _certificates(settings: Settings, servers: list[tuple[str, int]]) -> list[Diagnosis]:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return []
    found = []
    for host, port in servers:
        ends = await certificate_ends(host, port, connection(settings)["ssl_context"])
        found += of_certificate(f"Kafka at {host}:{port}", ends)
    return found


async def certificate_ends(host: str, port: int, context: ssl.SSLContext) -> float | None:
    """When the server's certificate ends, in seconds since 1970; None if that cannot be seen."""
    try:
        async with asyncio.timeout(SERVER_WITHIN_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:
        return None
    certificate = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
    ends = certificate.get("notAfter")
    return None if ends is None else ssl.cert_time_to_seconds(ends)


def of_certificate(whose: str, ends: float | None) -> list[Diagnosis]:
    """Whether a certificate ends soon; the time is of this machine."""
    import time

    left = None if ends is None else (ends - time.time()) / _DAY_SECONDS
    if left is None or left > CERTIFICATE_DAYS:
        return []
    return [
        warning(
            "certificate-ends",
            f"the certificate of {whose} ends in {max(0, int(left))} days; then nobody can connect",
            "renew it there",
        )
    ]
