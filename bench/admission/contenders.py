"""Who is compared: LiteLLM's own budgets, and ours, `settled` and `strict`. Each is a proxy."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import yaml

from bench.admission.workload import MODEL, NANOUSD_IN, NANOUSD_OUT
from bench.local import DidNotStart, local_stack
from spendmeter.client import connect
from spendmeter.contract.budget import Budget, Enforcement
from spendmeter.runtime.endpoints import Endpoints
from spendmeter.settings import Settings
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until

START_WITHIN_SECONDS = 300
ROOT = Path(__file__).parents[2]
CALLBACK = "spendmeter_gateway.callback"
OURS = (Enforcement.SETTLED.value, Enforcement.STRICT.value)
ON_POSTGRES = " on Postgres"
"""Ours by callback on the proxy that LiteLLM's own budgets run on."""


@dataclass(frozen=True)
class Contender:
    """A proxy, and how a key with a limit is made there."""

    name: str
    url: str
    master_key: str
    team: str | None = None
    """Whose keys are all under one of our budgets; LiteLLM's own limit is the key's `max_budget`."""

    def new_key(self, limit_usd: float) -> str:
        """A new key with that limit."""
        given: dict[str, Any] = {"team_id": self.team} if self.team else {"max_budget": limit_usd}
        return str(_post(self, "/key/generate", {"key_alias": uuid4().hex, **given})["key"])


def _post(contender: Contender, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    answer = httpx.post(
        contender.url + path,
        json=body,
        headers={"Authorization": f"Bearer {contender.master_key}"},
        timeout=60,
    )
    if answer.status_code != 200:
        raise DidNotStart(f"{path} was answered {answer.status_code}: {answer.text[:500]}")
    return dict(answer.json())


def proxy_config(api_base: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """A LiteLLM configuration with the one model; of gpt-4o the maximum, 16,384 tokens, is known."""
    params = {
        "model": "openai/gpt-4o",
        "api_base": api_base,
        "api_key": "sk-upstream",
        "input_cost_per_token": NANOUSD_IN / 1e9,
        "output_cost_per_token": NANOUSD_OUT / 1e9,
    }
    return {"model_list": [{"model_name": MODEL, "litellm_params": params}], **sections}


@contextmanager
def ours(directory: Path, limit_nanousd: int) -> Iterator[tuple[list[Contender], Endpoints]]:
    """Our two on the local stack's proxy, once their budgets are in force there. Raises DidNotStart."""
    config = directory / "litellm-local.yaml"
    api_base = "os.environ/SPENDMETER_UPSTREAM_API_BASE"
    config.write_text(yaml.safe_dump(proxy_config(api_base, router_settings={"num_retries": 0})))
    with local_stack(directory / "stack", "--proxy-config", str(config)) as stack:
        apply_budgets(stack.kafka_bootstrap, limit_nanousd)
        found = [Contender(name, stack.proxy_url, stack.proxy_master_key, team_of(name)) for name in OURS]
        # A key with a budget is answered once every budget is being enforced.
        _post(found[0], "/key/generate", {"max_budget": 1})
        yield found, stack


def team_of(enforcement: str) -> str:
    return f"bench-{enforcement}"


def apply_budgets(kafka: str, limit_nanousd: int) -> None:
    """One budget for each key of the team, per enforcement."""
    budgets = [
        Budget.model_validate(
            {
                "id": team_of(enforcement),
                "match": {"team": team_of(enforcement), "key": "*"},
                "limit_nanousd": limit_nanousd,
                "period": "lifetime",
                "enforcement": enforcement,
                "updated_at": datetime.now(UTC),
            }
        )
        for enforcement in OURS
    ]

    async def apply() -> None:
        async with connect(Settings(kafka_bootstrap=kafka)) as client:
            await client.apply(budgets)

    asyncio.run(apply())


@contextmanager
def litellm_native(directory: Path, scripts: Path, install: Path, upstream_url: str) -> Iterator[Contender]:
    """LiteLLM alone, with Postgres and Redis, as the scripts start it. Raises DidNotStart."""
    master_key = f"sk-{uuid4().hex}"
    config = directory / "litellm-native.yaml"
    config.write_text(yaml.safe_dump(native_config(upstream_url, master_key)))
    port, postgres, redis = free_port(), free_port(), free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [str(scripts / "start.sh"), "-d", str(install), "-c", str(config), "-f"]
    command += ["-p", str(port), "-g", str(postgres), "-r", str(redis)]
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        # On a busy machine it may need longer than the script waits, which then leaves it running.
        may_come = not ended.returncode or "is not ready after" in ended.stderr
        if not may_come or not wait_until(
            lambda: http_answers(f"{url}/health/readiness"), timeout_seconds=START_WITHIN_SECONDS
        ):
            raise DidNotStart(ended.stdout[-2000:] + ended.stderr[-2000:])
        yield Contender("LiteLLM", url, master_key)
    finally:
        subprocess.run([str(scripts / "stop.sh"), str(install)], capture_output=True, check=False)


def native_config(upstream_url: str, master_key: str, **litellm_settings: Any) -> dict[str, Any]:
    """With Redis for counters and Postgres for keys, as LiteLLM's documentation has it for several pods."""
    redis = {"host": "os.environ/REDIS_HOST", "port": "os.environ/REDIS_PORT"}
    return proxy_config(
        f"{upstream_url}/v1",
        general_settings={
            "master_key": master_key,
            "database_url": "os.environ/DATABASE_URL",
            "proxy_batch_write_at": 2,
        },
        litellm_settings={
            "cache": True,
            "cache_params": {"type": "redis", "supported_call_types": [], **redis},
            **litellm_settings,
        },
        router_settings={"num_retries": 0, **{f"redis_{name}": value for name, value in redis.items()}},
    )


@contextmanager
def ours_on_postgres(
    directory: Path, install: Path, native: Contender, stack: Endpoints
) -> Iterator[list[Contender]]:
    """A second proxy on the same installation and database, with our callback. Raises DidNotStart."""
    config, data = directory / "litellm-ours.yaml", directory / "gateway"
    extra = {"callbacks": CALLBACK, "global_disable_no_log_param": True}
    config.write_text(yaml.safe_dump(native_config(stack.upstream_url, native.master_key, **extra)))
    port, metrics_port = free_port(), free_port()
    running = (install / "run" / "proxy.pid").read_text().strip()
    of_native = dict(
        line.split("=", 1) for line in Path(f"/proc/{running}/environ").read_text().split("\0") if "=" in line
    )
    libraries = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    env = of_native | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(libraries)]),
        "SPENDMETER_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "SPENDMETER_DATA_DIR": str(data),
        "SPENDMETER_METRICS_PORT": str(metrics_port),
        "SPENDMETER_GATEWAY": "postgres",
    }
    command = ["litellm", "--config", str(config), "--host", LOOPBACK, "--port", str(port)]
    process = start_child(
        ["env", *(f"{k}={v}" for k, v in env.items()), *command], log=directory / "ours.log"
    )
    url, metrics = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{metrics_port}/metrics"
    try:
        ready = wait_until(
            lambda: (
                process.poll() is not None
                or (http_answers(f"{url}/health/readiness") and says_ready(metrics))
            ),
            timeout_seconds=START_WITHIN_SECONDS,
        )
        if not ready or process.poll() is not None:
            raise DidNotStart((directory / "ours.log").read_text()[-2000:])
        found = [Contender(name + ON_POSTGRES, url, native.master_key, team_of(name)) for name in OURS]
        for name, one in zip(OURS, found, strict=True):
            _post(one, "/team/new", {"team_id": team_of(name), "team_alias": team_of(name)})
        yield found
    finally:
        if not stop_child(process, grace_seconds=20):
            kill_child(process)
