"""Who is compared: LiteLLM alone, with spendmeter, with its own ClickHouse logger, with its own budgets.

Each is the plain `litellm` command on the same configuration; only what is attached to it differs.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from sys import executable
from typing import Any
from uuid import uuid4

import yaml

from bench.admission import contenders as admission
from bench.local import DidNotStart
from spendmeter.runtime.endpoints import Endpoints
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until

BARE, OURS, CLICKHOUSE, NATIVE = (
    "LiteLLM alone",
    "with spendmeter",
    "with its own ClickHouse logger",
    "with its own budgets in Postgres and Redis",
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy that is up."""

    name: str
    url: str
    key: str
    """What its clients show."""
    session: int
    """Whose processes' time is the proxy's."""


@dataclass(frozen=True, slots=True)
class Field:
    """Who is there, and why somebody is not."""

    contenders: list[Contender] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attached:
    """What one proxy has attached."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    metrics_url: str | None = None
    """Says when it is ready, beside LiteLLM's own word."""


@contextmanager
def field_of(directory: Path, stack: Endpoints, postgres: tuple[Path, Path] | None) -> Iterator[Field]:
    """Start everybody. Whoever does not start is absent, and the others go on."""
    found = Field()
    with ExitStack() as running:
        for attached in (Attached(BARE), _ours(directory, stack), _clickhouse(stack)):
            try:
                found.contenders.append(running.enter_context(_plain(directory, stack, attached)))
            except DidNotStart as error:
                found.absent[attached.name] = str(error)
        if postgres is None:
            found.absent[NATIVE] = "needs --litellm-postgres and --install"
        else:
            try:
                found.contenders.append(running.enter_context(_native(directory, stack, *postgres)))
            except DidNotStart as error:
                found.absent[NATIVE] = str(error)
        yield found


def _ours(directory: Path, stack: Endpoints) -> Attached:
    metrics_port = free_port()
    env = {
        "SPENDMETER_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "SPENDMETER_DATA_DIR": str(directory / "gateway"),
        "SPENDMETER_METRICS_PORT": str(metrics_port),
        "SPENDMETER_GATEWAY": "bench",
    }
    settings = {"callbacks": admission.CALLBACK, "global_disable_no_log_param": True}
    return Attached(OURS, settings, env, f"http://{LOOPBACK}:{metrics_port}/metrics")


def _clickhouse(stack: Endpoints) -> Attached:
    return Attached(
        CLICKHOUSE,
        {"callbacks": ["clickhouse"]},
        {
            "CLICKHOUSE_URL": stack.clickhouse_url,
            "CLICKHOUSE_PASSWORD": stack.clickhouse_password.get_secret_value(),
            "CLICKHOUSE_DATABASE": "litellm_bench",
        },
    )


@contextmanager
def _plain(directory: Path, stack: Endpoints, attached: Attached) -> Iterator[Contender]:
    """LiteLLM without a database. Raises DidNotStart."""
    master_key, port, slug = f"sk-{uuid4().hex}", free_port(), attached.name.replace(" ", "-")
    config, log = directory / f"{slug}.yaml", directory / f"{slug}.log"
    config.write_text(
        yaml.safe_dump(
            admission.proxy_config(
                f"{stack.upstream_url}/v1",
                general_settings={"master_key": master_key},
                litellm_settings=attached.settings,
                router_settings={"num_retries": 0},
            )
        )
    )
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", **attached.env}
    command = [str(Path(executable).with_name("litellm")), "--config", str(config)]
    process = start_child([*command, "--host", LOOPBACK, "--port", str(port)], log=log, env=env)
    url = f"http://{LOOPBACK}:{port}"
    try:
        _wait(process, url, attached.metrics_url, log)
        yield Contender(attached.name, url, master_key, process.pid)
    finally:
        if not stop_child(process, grace_seconds=20):
            kill_child(process)


def _wait(process: "Popen[bytes]", url: str, metrics_url: str | None, log: Path) -> None:
    def is_ready() -> bool:
        up = http_answers(f"{url}/health/readiness") and (metrics_url is None or says_ready(metrics_url))
        return up or process.poll() is not None

    ready = wait_until(is_ready, timeout_seconds=admission.START_WITHIN_SECONDS)
    if not ready or process.poll() is not None:
        raise DidNotStart(log.read_text()[-2000:])


@contextmanager
def _native(directory: Path, stack: Endpoints, scripts: Path, install: Path) -> Iterator[Contender]:
    """LiteLLM's virtual keys and budgets. Raises DidNotStart."""
    with admission.litellm_native(directory, scripts, install, stack.upstream_url) as native:
        pid = int((install / "run" / "proxy.pid").read_text())
        session = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
        # So much that nothing of it is refused.
        yield Contender(NATIVE, native.url, native.new_key(10_000), session)
