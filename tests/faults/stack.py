"""`python -m tests.faults.stack --dir DIR`: the local stack as `spendmeter up` runs it, with links that fail.

The supervisor, the components and their settings are the product's own. Added are the fault proxy, one
listener per kind of client on each Kafka node that advertises the fault proxy's port (of a cluster it lets in
only who shows a password or a certificate), gateways without LiteLLM, and a consumer of the alerts.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from pydantic import BaseModel, TypeAdapter

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir
from spendmeter_local.kafka.broker import Broker, brokers, node_names
from spendmeter_local.ports import LOOPBACK, is_free, keep_ports
from spendmeter_local.probes import says_ready
from spendmeter_local.stack.components import Declaration, StackComponent, Stage, Step, declare
from spendmeter_local.stack.supervisor import Supervisor
from tests.faults.access import ACCESS, Files
from tests.faults.disk import mount
from tests.faults.tcp_proxy import LinkPorts

ROOT = Path(__file__).parents[2]
FAULT_PROXY = "fault-proxy"
CONTROL = f"{FAULT_PROXY}-control"
KAFKA_LINKS = tuple(f"{client}-kafka" for client in ACCESS)
"""Of a client to all nodes; `NAME-1` and so on to one of several."""
LINKS = (*KAFKA_LINKS, "sink-clickhouse")
# Of the last gateway: more than it records in the longest outage, little enough to be filled on purpose.
BOUNDED_OUTBOX_BYTES = 4 * 1024**2
READY_WITHIN_SECONDS = 400
ALERT_CONSUMER = "alert-consumer"
SPARES = ("stream", "clickhouse-sink", "gateway")
"""The sorts of processes of which a further one may join and leave."""
SMALL_DISK = "kafka-3"
"""Whose disk can be full, where the system lets us mount one."""


def gateway_names(count: int) -> list[str]:
    return [f"gateway-{number}" for number in range(1, count + 1)]


def link_names(link: str, nodes: int) -> list[str]:
    """The links that a name means: a link to Kafka is one for each node."""
    if link not in KAFKA_LINKS or nodes == 1:
        return [link]
    return [f"{link}-{number}" for number in range(1, nodes + 1)]


@dataclass(frozen=True)
class Layout:
    """Where everything in one stack is, and how clients of Kafka reach it."""

    stack: StackDir
    nodes: int
    """Of Kafka. Of several, each lets in only who shows who it is."""
    ports: Mapping[str, int]
    files: Files | None

    @classmethod
    def of(cls, stack: StackDir, gateways: int, nodes: int = 1) -> "Layout":
        """The ports are the same at each call as long as they are free."""
        names = ["clickhouse", CONTROL, "sink-clickhouse"]
        for node in node_names(nodes):
            names += [node, f"{node}-controller"]
        for link in KAFKA_LINKS:
            for name in link_names(link, nodes):
                names += [name, f"{name}-listener"]
        for gateway in (*gateway_names(gateways), spare("gateway")):
            names += [gateway, f"{gateway}-metrics"]
        names += [f"{spare(target)}-metrics" for target in SPARES]
        return cls(stack, nodes, keep_ports(stack.ports, names), Files(stack) if nodes > 1 else None)

    def env(self, client: str) -> dict[str, str]:
        """The settings by which a client of this kind reaches Kafka, through the fault proxy."""
        names = link_names(f"{client}-kafka", self.nodes)
        return {
            "SPENDMETER_KAFKA_BOOTSTRAP": ",".join(f"{LOOPBACK}:{self.ports[name]}" for name in names),
            **(self.files.env(client) if self.files else {}),
        }

    def brokers(self) -> list[Broker]:
        """The local stack's own, each with a listener for each kind of client."""
        made = brokers(self.stack, self.nodes, self.ports)
        return [replace(broker, more_properties=self._more_properties(broker)) for broker in made]

    def _more_properties(self, broker: Broker) -> str:
        links = {client: link_names(f"{client}-kafka", self.nodes)[broker.node_id - 1] for client in ACCESS}
        listeners = [
            f"PLAINTEXT://{broker.bootstrap}",
            *(f"{c.upper()}://{LOOPBACK}:{self.ports[f'{link}-listener']}" for c, link in links.items()),
            f"CONTROLLER://{LOOPBACK}:{broker.controller_port}",
        ]
        advertised = [
            f"PLAINTEXT://{broker.bootstrap}",
            *(f"{c.upper()}://{LOOPBACK}:{self.ports[link]}" for c, link in links.items()),
        ]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]
        for client, access in ACCESS.items():
            protocols.append(f"{client.upper()}:{access.protocol if self.files else 'PLAINTEXT'}")
        return f"""
{self.files.properties() if self.files else ""}
listeners={",".join(listeners)}
advertised.listeners={",".join(advertised)}
listener.security.protocol.map={",".join(protocols)}
inter.broker.listener.name=PLAINTEXT
"""


def declare_with_faults(stack: StackDir, *, workers: int, gateways: int, nodes: int = 1) -> Declaration:
    """The whole local stack, every connection that matters led through the fault proxy.

    Beside it, the processes that may join and leave are written down for the driver.
    """
    declared = declare(stack, workers=workers, nodes=nodes)
    layout = Layout.of(stack, gateways, nodes)
    kafka = dict(zip(node_names(nodes), layout.brokers(), strict=True))
    stages: list[Stage] = [[_fault_proxy(layout)]]
    for stage in declared.stages:
        stages.append(
            [
                _led_through(item, layout, kafka) if isinstance(item, StackComponent) else item
                for item in stage
                # It changes nothing, and what it says would be among the alerts that are compared.
                if item.name != "watch"
            ]
        )
    if layout.files is not None:
        command = [sys.executable, "-m", "tests.faults.access", "--dir", str(stack.path)]
        stages[2] = [
            *stages[2],
            Step(
                "users",
                [*command, "--bootstrap", declared.kafka_bootstrap],
                {"PYTHONPATH": str(ROOT)},
            ),
        ]
    *unbounded, bounded = gateway_names(gateways)
    ours = [
        *stages[-1],
        *(_gateway(layout, name) for name in unbounded),
        _gateway(layout, bounded, SPENDMETER_OUTBOX_MAX_BYTES=str(BOUNDED_OUTBOX_BYTES)),
    ]
    _write_spares(layout, [item for item in ours if isinstance(item, StackComponent)])
    stages[-1] = [*ours, _alert_consumer(layout)]
    return replace(declared, stages=stages)


def _led_through(component: StackComponent, layout: Layout, kafka: Mapping[str, Broker]) -> StackComponent:
    if component.name in kafka:
        return _kafka(component, kafka[component.name], layout)
    env = dict(component.env)
    if component.name.startswith("stream"):
        env |= layout.env("stream")
    elif component.name == "clickhouse-sink":
        env |= layout.env("sink")
        env["SPENDMETER_CLICKHOUSE_URL"] = f"http://{LOOPBACK}:{layout.ports['sink-clickhouse']}"
    elif component.name == "proxy":
        env |= layout.env("gateway")
        env["SPENDMETER_GATEWAY"] = component.name
    # A busy machine is no fault of ours: LiteLLM alone takes minutes to start on one.
    return replace(component, env=env, ready_within_seconds=READY_WITHIN_SECONDS)


def held_down(stack: StackDir, component: str) -> Path:
    """While this file exists, the component does not start again."""
    return stack.path / f"{component}.held-down"


def _kafka(component: StackComponent, broker: Broker, layout: Layout) -> StackComponent:
    def command() -> list[str]:
        if held_down(layout.stack, component.name).exists():
            raise RuntimeError("held down by a fault")
        broker.prepare()
        return broker.command()

    return replace(component, command=command)


def _fault_proxy(layout: Layout) -> StackComponent:
    ports = layout.ports
    links = [
        LinkPorts(name, ports[name], ports[f"{name}-listener"])
        for link in KAFKA_LINKS
        for name in link_names(link, layout.nodes)
    ]
    links.append(LinkPorts("sink-clickhouse", ports["sink-clickhouse"], ports["clickhouse"]))
    command = [sys.executable, "-m", "tests.faults.tcp_proxy", "--control", str(ports[CONTROL])]
    for link in links:
        command += ["--link", str(link)]
    return StackComponent(
        FAULT_PROXY, lambda: command, lambda: not is_free(ports[CONTROL]), {"PYTHONPATH": str(ROOT)}
    )


def _gateway(layout: Layout, name: str, **more: str) -> StackComponent:
    data, ports = layout.stack.data(name), layout.ports
    data.mkdir(parents=True, exist_ok=True)
    metrics_url = f"http://{LOOPBACK}:{ports[f'{name}-metrics']}/metrics"
    command = [sys.executable, "-m", "tests.faults.gateway", "--port", str(ports[name])]
    env = {
        "PYTHONPATH": str(ROOT),
        "SPENDMETER_COMPONENT": name,
        "SPENDMETER_GATEWAY": name,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_SIGNING_KEYS_FILE": str(layout.stack.made_signing_keys()),
        "SPENDMETER_METRICS_PORT": str(ports[f"{name}-metrics"]),
        **layout.env("gateway"),
        **more,
    }
    return StackComponent(name, lambda: command, lambda: says_ready(metrics_url), env, metrics_url)


def seen_alerts(stack: StackDir) -> Path:
    """What the consumer of alerts has seen, one a line."""
    return stack.path / "alerts.seen"


def _alert_consumer(layout: Layout) -> StackComponent:
    seen = seen_alerts(layout.stack)
    command = [sys.executable, "-m", "tests.faults.alerts", "--file", str(seen)]
    env = {"PYTHONPATH": str(ROOT), "SPENDMETER_COMPONENT": ALERT_CONSUMER, **layout.env("sink")}
    return StackComponent(ALERT_CONSUMER, lambda: command, seen.exists, env)


class Spare(BaseModel):
    """A process that may join the stack, and leave it."""

    command: list[str]
    env: dict[str, str]
    metrics_url: str


def spare(target: str) -> str:
    """What the further process of that sort is called."""
    return f"{target}-spare"


def spares(stack: StackDir) -> dict[str, Spare]:
    """What may join, by name."""
    return TypeAdapter(dict[str, Spare]).validate_json(_spares_path(stack).read_text())


def _write_spares(layout: Layout, ours: Sequence[StackComponent]) -> None:
    found: dict[str, Spare] = {}
    for target in SPARES:
        name = spare(target)
        like = next(one for one in ours if one.name.startswith(target))
        if target == "gateway":
            one = _gateway(layout, name)
            found[name] = Spare(command=list(one.command()), env=dict(one.env), metrics_url=one.metrics_url)
            continue
        port = layout.ports[f"{name}-metrics"]
        env = {
            **like.env,
            "SPENDMETER_COMPONENT": name,
            "SPENDMETER_INSTANCE_ID": name,
            "SPENDMETER_SINK_INSTANCE": name,
            "SPENDMETER_DATA_DIR": str(layout.stack.data(name)),
            "SPENDMETER_METRICS_PORT": str(port),
        }
        url = f"http://{LOOPBACK}:{port}/metrics"
        found[name] = Spare(command=list(like.command()), env=env, metrics_url=url)
    write_atomically(_spares_path(layout.stack), TypeAdapter(dict[str, Spare]).dump_json(found).decode())


def _spares_path(stack: StackDir) -> Path:
    return stack.path / "spares.json"


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--workers", type=int, default=2)
@click.option("--gateways", type=int, default=2)
@click.option("--brokers", "nodes", type=int, default=1)
@click.option("--small-disk", is_flag=True, help="Give one node a disk of its own, which can be full.")
def main(directory: Path, workers: int, gateways: int, nodes: int, small_disk: bool) -> None:
    """Run the stack in the foreground until SIGTERM."""
    stack = StackDir(directory.absolute())
    if small_disk:
        mount(stack.data(SMALL_DISK))
    declaration = declare_with_faults(stack, workers=workers, gateways=gateways, nodes=nodes)
    raise SystemExit(Supervisor(stack, declaration, lambda line: print(line, flush=True)).run())


if __name__ == "__main__":
    main()
