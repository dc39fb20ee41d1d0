"""What each process may do in Kafka, by the brokers' own verdict on this client (KIP-430): nothing"
" is written."""

import asyncio
from collections.abc import Iterator, Mapping

from spendmeter.contract.topics import Topic
from spendmeter.kafka.client import AIOKafkaAdminClient, KafkaError
from spendmeter.kafka.described import DescribedCluster, DescribedTopic, Operation, rights_on_group
from spendmeter.kafka.errors import render_kafka_error
from spendmeter.kafka.groups import ALERTS_GROUP, SINK_GROUP, STREAM_GROUP
from spendmeter.settings import Settings
from spendmeter_doctor.diagnosis import Diagnosis, fault, unchecked, warning
from spendmeter_doctor.system import Process, System
from spendmeter_stream.settings import StreamSettings
from spendmeter_stream.state import JUDGE_TABLE, METER_TABLE

MAX_ATTEMPTS, ASK_AGAIN_SECONDS = 40, 0.25
T = Topic
_READS: Mapping[Process, tuple[Topic, ...]] = {
    Process.GATEWAY: (T.BUDGETS, T.SIGNALS, T.OBJECTS),
    Process.STREAM: (T.USAGE, T.TOTALS, T.BUDGETS),
    Process.SINK: tuple(t for t in Topic if t not in (T.TOTALS, T.OBJECTS)),
    Process.RELAY: (T.ALERTS, T.BUDGETS, T.DELIVERIES),
    Process.PEOPLE: (T.BUDGETS, T.SIGNALS),
}
_WRITES: Mapping[Process, tuple[Topic, ...]] = {
    Process.GATEWAY: (T.USAGE, T.DECISIONS, T.OBJECTS, T.BUDGETS),
    Process.STREAM: (T.TOTALS, T.OPENINGS, T.SIGNALS, T.ALERTS, T.DEAD_LETTERS),
    Process.SINK: (T.TOTALS, T.OPENINGS, T.DEAD_LETTERS),
    Process.RELAY: (T.DELIVERIES,),
    Process.PEOPLE: (T.BUDGETS,),
}
"""docs/operations.md has the same table."""
_GROUPS: Mapping[Process, str] = {
    Process.STREAM: STREAM_GROUP,
    Process.SINK: SINK_GROUP,
    Process.RELAY: f"{ALERTS_GROUP}.doctor",
}
Wanted = dict[str, dict[Operation, list[Process]]]
"""Topic to operation to the processes that need it."""


def wanted_topics(system: System) -> Wanted:
    """What the processes need, by topic."""
    settings, wanted = system.settings, Wanted()
    adopts = system.gateway is None or system.gateway.adopt != "off"
    for process in sorted(system.processes):
        reads = [settings.topic(topic) for topic in _READS[process]]
        writes = [
            settings.topic(topic)
            for topic in _WRITES[process]
            if adopts or (process, topic) != (Process.GATEWAY, Topic.BUDGETS)
        ]
        if process is Process.STREAM:
            reads += changelogs(settings)
            writes += changelogs(settings)
        for operation, names in ((Operation.READ, reads), (Operation.WRITE, writes)):
            for name in names:
                wanted.setdefault(name, {}).setdefault(operation, []).append(process)
    return wanted


def changelogs(settings: Settings) -> list[str]:
    """The names of the stream's own topics."""
    stream = StreamSettings.model_construct(topic_prefix=settings.topic_prefix)
    return [stream.changelog(table) for table in (METER_TABLE, JUDGE_TABLE)]


def of_topics(system: System, cluster: DescribedCluster) -> Iterator[Diagnosis]:
    """A fault for each right that a process lacks."""
    who = principal(system.settings)
    for name, needed in sorted(wanted_topics(system).items()):
        topic = cluster.topics[name]
        if _is_missing(topic):
            if name in changelogs(system.settings):
                yield from _of_creating(name, cluster, who)
            continue
        for operation, processes in needed.items():
            if operation not in topic.allowed:
                verb = "read" if operation is Operation.READ else "write"
                yield fault(
                    "kafka-rights",
                    f"{who} may not {verb} {name}, which {_listed(processes)} must",
                    f"`kafka-acls.sh --add --allow-principal {who} --operation {verb.title()}"
                    f" --topic {name}`"
                    f"{_or_another(processes)}",
                )


def _of_creating(name: str, cluster: DescribedCluster, who: str) -> Iterator[Diagnosis]:
    if Operation.CREATE not in cluster.allowed:
        yield warning(
            "kafka-rights-create",
            f"there is no {name} yet, and {who} may not create topics everywhere: the stream creates"
            " it when it"
            " starts, unless a right for this name is enough",
            f"`kafka-acls.sh --add --allow-principal {who} --operation Create --topic {name}`",
        )


async def of_groups(system: System, admin: AIOKafkaAdminClient) -> list[Diagnosis]:
    """A fault for each consumer group that a process may not join."""
    found = []
    who = principal(system.settings)
    for process in sorted(system.processes & set(_GROUPS)):
        group = system.settings.topic_prefix + _GROUPS[process]
        try:
            may = Operation.READ in await _rights_once_led(admin, group)
        except KafkaError as error:
            if "Authorization" not in type(error).__name__:
                said = (
                    f"whether {process} may join the group {group} is not known ({render_kafka_error(error)})"
                )
                found.append(unchecked("kafka-rights-group", said, "run the doctor again"))
                continue
            may = False
        if not may:
            named = f"{ALERTS_GROUP}. --resource-pattern-type prefixed" if process is Process.RELAY else group
            found.append(
                fault(
                    "kafka-rights-group",
                    f"{who} may not join the group {group}, which {process} must",
                    f"`kafka-acls.sh --add --allow-principal {who} --operation Read --group {named}`"
                    f"{_or_another([process])}",
                )
            )
    return found


async def _rights_once_led(admin: AIOKafkaAdminClient, group: str) -> frozenset[Operation]:
    """A cluster that never had a group first makes the topic of their offsets."""
    for _ in range(MAX_ATTEMPTS):
        try:
            return await rights_on_group(admin, group)
        except KafkaError as error:
            if "Authorization" in type(error).__name__:
                raise
            await asyncio.sleep(ASK_AGAIN_SECONDS)
    return await rights_on_group(admin, group)


def principal(settings: Settings) -> str:
    """Who this client is to Kafka, as its tools write it."""
    if settings.kafka_security_protocol.startswith("SASL"):
        return f"User:{settings.kafka_sasl_username}"
    return "User:ANONYMOUS" if settings.kafka_security_protocol == "PLAINTEXT" else "User:CN=…"


def _is_missing(topic: DescribedTopic) -> bool:
    return topic.error is not None and "Unknown" in topic.error.__name__


def _listed(processes: list[Process]) -> str:
    return " and ".join(processes)


def _or_another(processes: list[Process]) -> str:
    given = " ".join(f"--process {one}" for one in processes)
    return (
        f"; if {_listed(processes)} runs as another user, check it as that one: `spendmeter doctor {given}`"
    )
