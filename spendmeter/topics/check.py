"""Checks topics: partitions, cleanup, timestamps, retention and sizes, as docs/operations.md requires."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code

from spendmeter.contract.topics import CONFIG, PARTITIONED, Topic
from spendmeter.kafka.client import MAX_RECORD_BYTES, admin_client, start
from spendmeter.settings import Settings
from spendmeter.topics.state import TopicState, topic_states

CREATE = "`spendmeter topics`"
_RETENTION, _SIZE, _CLEANUP, _STAMP = (
    "retention.ms",
    "max.message.bytes",
    "cleanup.policy",
    "message.timestamp.type",
)
_CHECKED = (_CLEANUP, _STAMP, _RETENTION, _SIZE)


class Finding(NamedTuple):
    """One fault of a topic."""

    code: str
    """For programs: what kind of fault it is."""
    sentence: str
    """What is wrong, and the command that corrects it."""
    is_fatal: bool
    """Whether counting on this topic would be wrong; other faults concern only time or size."""


class Checked(NamedTuple):
    """The result of a check."""

    states: dict[str, TopicState]
    """The existing topics, by name."""
    findings: list[Finding]

    @property
    def fatal(self) -> str:
        """Why nothing may be counted on them, in one line; empty if there is no reason."""
        return "; ".join(found.sentence for found in self.findings if found.is_fatal)

    @property
    def warnings(self) -> list[str]:
        """All other faults."""
        return [found.sentence for found in self.findings if not found.is_fatal]


async def check_topics(
    settings: Settings, topics: Collection[Topic], *, whatever_partitions: bool = False
) -> Checked:
    """Check these topics of the system.

    `whatever_partitions`: this process works with any number of partitions of the topics that share the load.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached or refuses.
    """
    names = {settings.topic(topic): topic for topic in topics}
    admin = admin_client(settings)
    try:
        await start(admin)
        states = await topic_states(admin._client, names)
        configs = await topic_configs(admin, states, _CHECKED)
    finally:
        await admin.close()
    partitions = None if whatever_partitions else settings.partitions
    return Checked(states, list(_findings(partitions, names, states, configs)))


async def topic_configs(
    admin: AIOKafkaAdminClient, names: Collection[str], keys: Collection[str]
) -> dict[str, dict[str, str] | None]:
    """These keys of each topic's configuration; None if this client may not see it.

    Raises:
        aiokafka.errors.KafkaError: the broker cannot be reached, or a topic is not there.
    """
    if not names:
        return {}
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(keys)) for name in sorted(names)]
    found: dict[str, dict[str, str] | None] = {}
    for response in await admin.describe_configs(wanted):
        for code, message, _, name, entries in response.resources:
            error = for_code(code)
            if error is TopicAuthorizationFailedError:
                found[name] = None
            elif code:
                raise error(f"{name}: {message}")
            else:
                found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _findings(
    partitions: int | None,
    names: Mapping[str, Topic],
    states: Mapping[str, TopicState],
    configs: Mapping[str, Mapping[str, str] | None],
) -> Iterator[Finding]:
    missing = [name for name in names if name not in states]
    if missing:
        said = f"there is no topic {', '.join(missing)}; create it with {CREATE}"
        yield Finding("topic-missing", said, is_fatal=True)
    for name, state in states.items():
        wanted = partitions if names[name] in PARTITIONED else 1
        if wanted is not None and state.partitions != wanted:
            said = _of_partitions(names[name], name, state.partitions, wanted)
            yield Finding("topic-partitions", said, is_fatal=True)
        config = configs.get(name)
        if config is None:
            yield Finding(
                "topic-config-unseen",
                f"the configuration of {name} is not known: this user may not see it (DescribeConfigs)",
                is_fatal=False,
            )
        else:
            yield from _of_config(names[name], name, config)


def _of_partitions(topic: Topic, name: str, partitions: int, wanted: int) -> str:
    if topic not in PARTITIONED:
        return f"{name} has {partitions} partitions and must have 1, so that it keeps one order"
    return (
        f"{name} has {partitions} partitions, and SPENDMETER_PARTITIONS is {wanted}: give every process the"
        " number that the topics were made with. If somebody has added partitions since, what is in them is"
        f" in no budget until `spendmeter move --to-prefix NEW --partitions {max(partitions, wanted)}` has"
        " made topics that go on with what history holds"
    )


def _of_config(topic: Topic, name: str, config: Mapping[str, str]) -> Iterator[Finding]:
    wanted = CONFIG[topic]
    cleanup = wanted.get(_CLEANUP, "delete")
    if set(config.get(_CLEANUP, cleanup).split(",")) != set(cleanup.split(",")):
        why = "its latest record per key must be kept" if "compact" in cleanup else "records would be dropped"
        yield _mended(name, _CLEANUP, config[_CLEANUP], cleanup, why, is_fatal=True)
    stamp = wanted.get(_STAMP)
    if stamp is not None and config.get(_STAMP, stamp) != stamp:
        why = "retention and the bound on clocks go by the broker's clock"
        yield _mended(name, _STAMP, config[_STAMP], stamp, why, is_fatal=True)
    retention = wanted.get(_RETENTION)
    if retention is not None and _is_less(config.get(_RETENTION, retention), retention):
        why = "records are gone before whoever was away has read them"
        yield _mended(name, _RETENTION, config[_RETENTION], retention, why, is_fatal=False)
    size = wanted.get(_SIZE, str(MAX_RECORD_BYTES))
    if int(config.get(_SIZE, size)) < int(size):
        yield _mended(name, _SIZE, config[_SIZE], size, "a record of ours may be as large", is_fatal=False)


def _is_less(milliseconds: str, than: str) -> bool:
    """As a retention time: −1 means for ever."""
    given, wanted = int(milliseconds), int(than)
    return given >= 0 and (wanted < 0 or given < wanted)


def _mended(name: str, key: str, found: str, wanted: str, why: str, *, is_fatal: bool) -> Finding:
    value = f"[{wanted}]" if "," in wanted else wanted
    return Finding(
        "topic-config",
        f"{name} has {key}={found} and needs {wanted}, because {why}: `kafka-configs.sh --alter --entity-type"
        f" topics --entity-name {name} --add-config {key}={value}`",
        is_fatal,
    )
