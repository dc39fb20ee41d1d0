"""`python -m tests.faults.stack --dir DIR`: the local stack as `spendmeter up` runs it, with links that fail.

The supervisor, the components and their settings are the product's own. Added are the fault proxy, one
Kafka listener per kind of client that advertises the fault proxy's port, and gateways without LiteLLM.
"""

import sys
from dataclasses import replace
from pathlib import Path

import click

from spendmeter.local.components import Component, Declaration, Stage, declare
from spendmeter.local.endpoints import StackDir
from spendmeter.local.files import write_atomically
from spendmeter.local.kafka import Broker, server_properties
from spendmeter.local.ports import LOOPBACK, is_free, keep_ports
from spendmeter.local.probes import says_ready
from spendmeter.local.supervisor import Supervisor
from tests.faults.tcp_proxy import LinkPorts

ROOT = Path(__file__).parents[2]
FAULT_PROXY = "fault-proxy"
CONTROL = f"{FAULT_PROXY}-control"
KAFKA_CLIENTS = ("gateway", "stream", "sink")
LINKS = (*(f"{client}-kafka" for client in KAFKA_CLIENTS), "sink-clickhouse")
# Of the last gateway: more than it records in the longest outage, little enough to be filled on purpose.
BOUNDED_OUTBOX_BYTES = 4 * 1024**2


def gateway_names(count: int) -> list[str]:
    return [f"gateway-{number}" for number in range(1, count + 1)]


def ports_of(stack: StackDir, gateways: int) -> dict[str, int]:
    """Every port of ours in this stack, the same at each call as long as they are free."""
    names = ["kafka", "kafka-controller", "clickhouse", CONTROL, *LINKS]
    names += [f"{client}-listener" for client in KAFKA_CLIENTS]
    for gateway in gateway_names(gateways):
        names += [gateway, f"{gateway}-metrics"]
    return keep_ports(stack.ports, names)


def declare_with_faults(stack: StackDir, *, workers: int, gateways: int) -> Declaration:
    """The whole local stack, every connection that matters led through the fault proxy."""
    declared = declare(stack, workers=workers)
    ports = ports_of(stack, gateways)
    stages: list[Stage] = [[_fault_proxy(ports)]]
    for stage in declared.stages:
        stages.append(
            [_led_through(item, stack, ports) if isinstance(item, Component) else item for item in stage]
        )
    *unbounded, bounded = gateway_names(gateways)
    stages[-1] = [
        *stages[-1],
        *(_gateway(stack, name, ports) for name in unbounded),
        _gateway(stack, bounded, ports, SPENDMETER_OUTBOX_MAX_BYTES=str(BOUNDED_OUTBOX_BYTES)),
    ]
    return replace(declared, stages=stages)


def broker_properties(broker: Broker, ports: dict[str, int]) -> str:
    """The local broker's own, and a listener for each kind of client. The last line of a name counts."""
    names = {client: client.upper() for client in KAFKA_CLIENTS}
    listeners = [
        f"PLAINTEXT://{broker.bootstrap}",
        *(f"{name}://{LOOPBACK}:{ports[f'{client}-listener']}" for client, name in names.items()),
        f"CONTROLLER://{LOOPBACK}:{broker.controller_port}",
    ]
    advertised = [
        f"PLAINTEXT://{broker.bootstrap}",
        *(f"{name}://{LOOPBACK}:{ports[f'{client}-kafka']}" for client, name in names.items()),
    ]
    protocols = [f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", *names.values())]
    return (
        server_properties(broker)
        + f"""
listeners={",".join(listeners)}
advertised.listeners={",".join(advertised)}
listener.security.protocol.map={",".join(protocols)}
inter.broker.listener.name=PLAINTEXT
"""
    )


def _led_through(component: Component, stack: StackDir, ports: dict[str, int]) -> Component:
    if component.name == "kafka":
        return _kafka(
            component, Broker(stack.data("kafka"), ports["kafka"], ports["kafka-controller"]), ports
        )
    env = dict(component.env)
    if component.name.startswith("stream"):
        env["SPENDMETER_KAFKA_BOOTSTRAP"] = f"{LOOPBACK}:{ports['stream-kafka']}"
    elif component.name == "clickhouse-sink":
        env["SPENDMETER_KAFKA_BOOTSTRAP"] = f"{LOOPBACK}:{ports['sink-kafka']}"
        env["SPENDMETER_CLICKHOUSE_URL"] = f"http://{LOOPBACK}:{ports['sink-clickhouse']}"
    elif component.name == "proxy":
        env["SPENDMETER_KAFKA_BOOTSTRAP"] = f"{LOOPBACK}:{ports['gateway-kafka']}"
        env["SPENDMETER_GATEWAY"] = component.name
    return replace(component, env=env)


def _kafka(component: Component, broker: Broker, ports: dict[str, int]) -> Component:
    def command() -> list[str]:
        broker.prepare()
        write_atomically(broker.properties_path, broker_properties(broker, ports))
        return broker.command()

    return replace(component, command=command)


def _fault_proxy(ports: dict[str, int]) -> Component:
    links = [LinkPorts(f"{c}-kafka", ports[f"{c}-kafka"], ports[f"{c}-listener"]) for c in KAFKA_CLIENTS]
    links.append(LinkPorts("sink-clickhouse", ports["sink-clickhouse"], ports["clickhouse"]))
    command = [sys.executable, "-m", "tests.faults.tcp_proxy", "--control", str(ports[CONTROL])]
    for link in links:
        command += ["--link", str(link)]
    return Component(
        FAULT_PROXY, lambda: command, lambda: not is_free(ports[CONTROL]), {"PYTHONPATH": str(ROOT)}
    )


def _gateway(stack: StackDir, name: str, ports: dict[str, int], **more: str) -> Component:
    data = stack.data(name)
    data.mkdir(parents=True, exist_ok=True)
    metrics_url = f"http://{LOOPBACK}:{ports[f'{name}-metrics']}/metrics"
    command = [sys.executable, "-m", "tests.faults.gateway", "--port", str(ports[name])]
    env = {
        "PYTHONPATH": str(ROOT),
        "SPENDMETER_COMPONENT": name,
        "SPENDMETER_GATEWAY": name,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_SIGNING_KEYS_FILE": str(stack.made_signing_keys()),
        "SPENDMETER_KAFKA_BOOTSTRAP": f"{LOOPBACK}:{ports['gateway-kafka']}",
        "SPENDMETER_METRICS_PORT": str(ports[f"{name}-metrics"]),
        **more,
    }
    return Component(name, lambda: command, lambda: says_ready(metrics_url), env, metrics_url)


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--workers", type=int, default=2)
@click.option("--gateways", type=int, default=2)
def main(directory: Path, workers: int, gateways: int) -> None:
    """Run the stack in the foreground until SIGTERM."""
    stack = StackDir(directory.absolute())
    declaration = declare_with_faults(stack, workers=workers, gateways=gateways)
    raise SystemExit(Supervisor(stack, declaration, lambda line: print(line, flush=True)).run())


if __name__ == "__main__":
    main()
