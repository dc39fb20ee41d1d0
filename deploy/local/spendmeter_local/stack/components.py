"""The components of the local stack, as data: how each one starts, when it is ready, and its time limits."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import spendmeter_console
import spendmeter_sinks
import spendmeter_sinks.alerts
import spendmeter_sinks.watch
import spendmeter_stream
from spendmeter.runtime.endpoints import StackDir
from spendmeter.topics import create as create_topics
from spendmeter_local import clickhouse, proxy, upstream
from spendmeter_local.kafka.broker import (
    MAX_REPLICATION,
    Broker,
    brokers,
    check_nodes,
    kept_nodes,
    node_names,
)
from spendmeter_local.ports import LOOPBACK, keep_ports
from spendmeter_local.probes import http_answers, kafka_answers, says_ready
from spendmeter_local.proxy.config import SHIPPED_CONFIG

KAFKA_GRACE_SECONDS = 20.0
CLUSTER_GRACE_SECONDS = 6.0
"""A node hands its partitions over before it ends. The last node of a cluster waits in vain for a quorum
and is then killed; what it has acknowledged is on the disk all the same."""


@dataclass(frozen=True)
class StackComponent:
    """A process that runs as long as the stack."""

    name: str
    command: Callable[[], Sequence[str]]
    """Called before each start, to prepare it."""
    is_ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    metrics_url: str | None = None
    ready_within_seconds: float = 60
    grace_seconds: float = 10


@dataclass(frozen=True)
class Step:
    """A process that must succeed before the next stage starts."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    within_seconds: float = 60


Stage = Sequence[StackComponent | Step]
"""Components that may start at the same time. Stages start in order and stop in reverse."""


@dataclass(frozen=True)
class Declaration:
    """Everything that a supervisor needs to know about a stack."""

    stages: Sequence[Stage]
    kafka_bootstrap: str
    clickhouse_url: str
    clickhouse_password: str = field(repr=False)
    upstream_url: str
    proxy_url: str
    master_key: str
    web_url: str = ""

    @property
    def components(self) -> list[StackComponent]:
        return [item for stage in self.stages for item in stage if isinstance(item, StackComponent)]

    def only(self, names: Sequence[str]) -> "Declaration":
        """The same stack without the components and steps that are not named."""
        stages = [[item for item in stage if item.name in names] for stage in self.stages]
        return Declaration(
            [stage for stage in stages if stage],
            self.kafka_bootstrap,
            self.clickhouse_url,
            self.clickhouse_password,
            self.upstream_url,
            self.proxy_url,
            self.master_key,
            self.web_url,
        )


def declare(
    stack: StackDir,
    *,
    workers: int = 1,
    nodes: int | None = None,
    proxy_config: Path = SHIPPED_CONFIG,
    alert_routes: Path | None = None,
) -> Declaration:
    """The whole stack in this directory; picks its ports.

    By default it has as many Kafka nodes as before, one at first. Raises WrongNodesError.
    """
    nodes = nodes or kept_nodes(stack) or 1
    check_nodes(stack, nodes)
    streams = ["stream"] if workers == 1 else [f"stream-{number}" for number in range(1, workers + 1)]
    relays = ["alerts-relay"] if alert_routes is not None else []
    ours = [*streams, "clickhouse-sink", *relays, "watch", "proxy"]
    names = [
        *(port for name in node_names(nodes) for port in (name, f"{name}-controller")),
        "clickhouse",
        "upstream",
        "proxy",
        "web",
        *(f"{name}-metrics" for name in (*ours, "web")),
    ]
    ports = keep_ports(stack.ports, names)
    cluster = brokers(stack, nodes, ports)
    bootstrap = ",".join(broker.bootstrap for broker in cluster)
    clickhouse_url = _url(ports["clickhouse"])
    clickhouse_password = stack.clickhouse_password()
    upstream_url = _url(ports["upstream"])
    shared = {
        "SPENDMETER_KAFKA_BOOTSTRAP": bootstrap,
        "SPENDMETER_REPLICATION": str(min(nodes, MAX_REPLICATION)),
        "SPENDMETER_CLICKHOUSE_URL": clickhouse_url,
        "SPENDMETER_CLICKHOUSE_USER": "default",
        "SPENDMETER_CLICKHOUSE_PASSWORD": clickhouse_password,
        "SPENDMETER_UPSTREAM_URL": upstream_url,
        "SPENDMETER_DIR": str(stack.path),
        "SPENDMETER_SIGNING_KEYS_FILE": str(stack.made_signing_keys()),
        # The stack has its own, whatever the user's environment has.
        "SPENDMETER_SIGNING_KEYS": "",
        # LiteLLM would fetch its price list at each start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    master_key = stack.master_key()

    def ours_named(
        name: str, *arguments: str, serves: Callable[[], bool] = lambda: True, **more: str
    ) -> StackComponent:
        metrics_url = f"{_url(ports[f'{name}-metrics'])}/metrics"
        env = {**_env(stack, name, shared), "SPENDMETER_METRICS_PORT": str(ports[f"{name}-metrics"]), **more}
        return StackComponent(
            name,
            lambda: _python(*arguments),
            lambda: says_ready(metrics_url) and serves(),
            env,
            metrics_url,
            ready_within_seconds=120,
            grace_seconds=15,
        )

    proxy_arguments = (
        proxy.__name__,
        "--config",
        str(proxy_config.absolute()),
        "--port",
        str(ports["proxy"]),
    )

    def proxy_serves() -> bool:
        # The callback is ready as soon as it has read Kafka, which may be before LiteLLM listens.
        return http_answers(f"{_url(ports['proxy'])}/health/liveliness")

    def web_serves() -> bool:
        return http_answers(f"{_url(ports['web'])}/healthz")

    return Declaration(
        [
            [
                *(_kafka(name, broker) for name, broker in zip(node_names(nodes), cluster, strict=True)),
                _clickhouse(stack, ports["clickhouse"], shared),
                _upstream(stack, ports["upstream"], shared),
            ],
            [
                Step(
                    "topics",
                    _python(create_topics.__name__),
                    {**shared, "SPENDMETER_COMPONENT": "topics"},
                ),
                Step(
                    "schema",
                    _python(spendmeter_sinks.__name__, "migrate"),
                    {**shared, "SPENDMETER_COMPONENT": "schema"},
                ),
            ],
            [
                # Static group members, so that a restarted one gets its partitions back at once.
                *(
                    ours_named(name, spendmeter_stream.__name__, SPENDMETER_INSTANCE_ID=name)
                    for name in streams
                ),
                ours_named(
                    "clickhouse-sink",
                    spendmeter_sinks.__name__,
                    SPENDMETER_SINK_INSTANCE="clickhouse-sink",
                ),
                *(
                    ours_named(
                        name,
                        spendmeter_sinks.alerts.__name__,
                        SPENDMETER_ALERTS_ROUTES=str(Path(alert_routes or "").absolute()),
                        SPENDMETER_ALERTS_INSTANCE=name,
                    )
                    for name in relays
                ),
                ours_named("watch", spendmeter_sinks.watch.__name__),
                ours_named("proxy", *proxy_arguments, serves=proxy_serves, SPENDMETER_MASTER_KEY=master_key),
                ours_named(
                    "web",
                    spendmeter_console.__name__,
                    serves=web_serves,
                    SPENDMETER_WEB_HOST=LOOPBACK,
                    SPENDMETER_WEB_PORT=str(ports["web"]),
                    SPENDMETER_WEB_METRICS_URLS=",".join(
                        f"{_url(ports[f'{name}-metrics'])}/metrics" for name in ours
                    ),
                ),
            ],
        ],
        kafka_bootstrap=bootstrap,
        clickhouse_url=clickhouse_url,
        clickhouse_password=clickhouse_password,
        upstream_url=upstream_url,
        proxy_url=_url(ports["proxy"]),
        master_key=master_key,
        web_url=_url(ports["web"]),
    )


def _kafka(name: str, broker: Broker) -> StackComponent:
    def command() -> Sequence[str]:
        broker.prepare()
        return broker.command()

    grace = KAFKA_GRACE_SECONDS if broker.cluster is None else CLUSTER_GRACE_SECONDS
    return StackComponent(name, command, lambda: kafka_answers(broker.bootstrap), grace_seconds=grace)


def _clickhouse(stack: StackDir, port: int, shared: Mapping[str, str]) -> StackComponent:
    command = _python(clickhouse.__name__, "--path", str(stack.data("clickhouse")), "--port", str(port))
    return StackComponent(
        "clickhouse",
        lambda: command,
        lambda: http_answers(f"{_url(port)}/ping"),
        _env(stack, "clickhouse", shared),
        grace_seconds=20,
    )


def _upstream(stack: StackDir, port: int, shared: Mapping[str, str]) -> StackComponent:
    command = _python(upstream.__name__, "--port", str(port))
    env = _env(stack, "upstream", shared)
    return StackComponent("upstream", lambda: command, lambda: http_answers(f"{_url(port)}/health"), env)


def _env(stack: StackDir, name: str, shared: Mapping[str, str]) -> dict[str, str]:
    data = stack.data(name)
    data.mkdir(parents=True, exist_ok=True)
    return {**shared, "SPENDMETER_COMPONENT": name, "SPENDMETER_DATA_DIR": str(data)}


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"
