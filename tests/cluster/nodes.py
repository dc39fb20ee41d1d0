"""Nodes of a cluster that a test starts, kills and configures one by one."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from spendmeter_local.children import kill_child, start_child
from spendmeter_local.kafka.broker import Broker, Cluster, new_cluster_id
from spendmeter_local.kafka.jars import fetch_jars
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import kafka_answers, wait_until
from tests.faults.tcp_proxy import LinkPorts

WITHIN_SECONDS = 240


class Node:
    """One node, on the same ports and data at each start."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it takes part. Not on an event loop: the probe runs one of its own."""
        log = self.broker.data_dir / "kafka.log"
        self._process = start_child(self.broker.command(), log=log)
        bootstrap = self.broker.bootstrap
        assert wait_until(lambda: kafka_answers(bootstrap), timeout_seconds=WITHIN_SECONDS), log.read_text()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            kill_child(self._process)
            self._process = None


def one_that_rules(directory: Path, copied_through: Sequence[LinkPorts], more: str) -> list[Node]:
    """A node that is the whole quorum, and others that only hold copies: they may die while it elects.

    Each is copied from through its link; clients and the quorum go straight.
    """
    fetch_jars()
    ports = [one for link in copied_through for one in (link.listen, link.target)]
    for _ in range(len(copied_through) + 1):
        ports.append(free_port(ports))
    *client_ports, controller_port = ports[2 * len(copied_through) :]
    cluster = Cluster(new_cluster_id(), [controller_port])
    made = []
    for number, (port, link) in enumerate(zip(client_ports, copied_through, strict=True), start=1):
        rules = number == 1
        listeners = [f"PLAINTEXT://{LOOPBACK}:{port}", f"INTERNAL://{LOOPBACK}:{link.target}"]
        advertised = [listeners[0], f"INTERNAL://{LOOPBACK}:{link.listen}"]
        if rules:
            listeners.append(f"CONTROLLER://{LOOPBACK}:{controller_port}")
        properties = f"""
process.roles={"broker,controller" if rules else "broker"}
listeners={",".join(listeners)}
advertised.listeners={",".join(advertised)}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
{more}
"""
        broker = Broker(
            directory / f"kafka-{number}",
            port,
            controller_port,
            node_id=number,
            cluster=cluster,
            more_properties=properties,
        )
        broker.prepare()
        made.append(Node(broker))
    return made


def kill_all(nodes: Sequence[Node]) -> None:
    """kill -9 of each."""
    for node in nodes:
        node.kill()
