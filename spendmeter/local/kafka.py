"""One real Apache Kafka node (KRaft, broker and controller in one process) on loopback."""

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from spendmeter.local.files import write_atomically
from spendmeter.local.java import find_java
from spendmeter.local.kafka_jars import LOCAL, KafkaRelease, classpath
from spendmeter.local.ports import LOOPBACK

NODE_ID = 1
MAX_HEAP = "512m"
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


class KafkaFormatError(RuntimeError):
    """Kafka's storage tool refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker whose data lives in `data_dir`, reachable at `port`."""

    data_dir: Path
    port: int
    controller_port: int
    release: KafkaRelease = LOCAL

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def properties_path(self) -> Path:
        return self.data_dir / "server.properties"

    def prepare(self) -> None:
        """Write the configuration; format the storage once. Raises KafkaFormatError."""
        write_atomically(self.properties_path, server_properties(self))
        write_atomically(self._log4j_path, LOG4J)
        if not (self._log_dir / "meta.properties").exists():
            self._format()

    def command(self) -> list[str]:
        """Starts the broker in the foreground."""
        return [*self._java(f"-Xmx{MAX_HEAP}"), "kafka.Kafka", str(self.properties_path)]

    @property
    def _log_dir(self) -> Path:
        return self.data_dir / "log"

    @property
    def _log4j_path(self) -> Path:
        return self.data_dir / "log4j2.properties"

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-")
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
        # The serial collector: one small heap on a machine that others share.
        logging = f"-Dlog4j2.configurationFile={self._log4j_path}"
        return [str(find_java()), heap, "-XX:+UseSerialGC", logging, "-cp", classpath(self.release)]


def server_properties(broker: Broker) -> str:
    """The broker's configuration, each line that differs from Kafka's default with its reason."""
    return f"""\
process.roles=broker,controller
node.id={NODE_ID}
listeners=PLAINTEXT://{LOOPBACK}:{broker.port},CONTROLLER://{LOOPBACK}:{broker.controller_port}
controller.listener.names=CONTROLLER
# Static voters: they are read from here at each start, so the controller's port may change between two.
controller.quorum.voters={NODE_ID}@{LOOPBACK}:{broker.controller_port}
log.dirs={broker._log_dir}

# Every topic is created on purpose, with its partitions and its compaction.
auto.create.topics.enable=false

# One node.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# Time removes nothing: neither records nor the offsets of a group that was away for a week.
log.retention.ms=-1
log.retention.bytes=-1
offsets.retention.minutes={NEVER_MINUTES}

# A lone worker has nobody to wait for; a killed one is noticed as soon as it asked to be.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# A killed broker's successor is let in once its predecessor's session is over: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# A small heap: the cleaner would take 128 MB of it.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
