"""What the issues are tried on: real LiteLLM proxies with the callback, and whoever asks them."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from clickhouse_connect.driver.client import Client

from spendmeter.client import SpendmeterClient, connect
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_local.children import kill_child, start_child, stop_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from tests.patience import WITHIN_SECONDS

"""For what takes milliseconds on a quiet machine."""
START_WITHIN_SECONDS = 600
CONFIG = Path(__file__).with_name("litellm.yaml")
# Nano-USD per token in and out, from the providers' price lists: the product takes them from elsewhere.
PRICES = {"gpt-4o-mini": (150, 600), "gpt-4o": (2_500, 10_000), "claude-sonnet-4-5": (3_000, 15_000)}
ASK = "in=1000 out=100"
ASK_COSTS = 1_000 * 150 + 100 * 600
"""What `ASK` costs of gpt-4o-mini, in nano-USD."""


def until(condition: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition; fails after WITHIN_SECONDS with what there is instead."""
    assert wait_until(lambda: bool(condition()), timeout_seconds=WITHIN_SECONDS), what()


class Upstream:
    """The fake model server's own count: what everything else is checked against."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url, self._http = url, http

    def last(self) -> int:
        """The number of its latest call."""
        return int(self._http.get(f"{self.url}/served/calls", params={"since": 10**9}).json()["last"])

    def calls(self, since: int) -> list[dict[str, Any]]:
        """The calls that it answered or began to answer after that one."""
        calls = self._http.get(f"{self.url}/served/calls", params={"since": since}).json()["calls"]
        return [call for call in calls if call["outcome"] != "failed"]

    def cost(self, since: int) -> int:
        """Nano-USD of those calls."""
        return sum(cost_of(call) for call in self.calls(since))


def nanousd_of(usd: float) -> int:
    """LiteLLM tells money as floats of USD."""
    return round(usd * 1e9)


def cost_of(call: Mapping[str, Any]) -> int:
    """Nano-USD of one of the upstream's calls."""
    per_input, per_output = PRICES[call["model"]]
    return int(call["input_tokens"] * per_input + call["output_tokens"] * per_output)


class Proxy:
    """A LiteLLM proxy process, which a test may end."""

    def __init__(self, name: str, data: Path, http: httpx.Client, env: Mapping[str, str]) -> None:
        self.name, self.data, self._http = name, data, http
        port, metrics_port = free_port(), free_port()
        self.url, self._metrics_url = (f"http://{LOOPBACK}:{number}" for number in (port, metrics_port))
        self._env = {
            **env,
            "SPENDMETER_DATA_DIR": str(data),
            "SPENDMETER_METRICS_PORT": str(metrics_port),
            "SPENDMETER_COMPONENT": name,
            "SPENDMETER_GATEWAY": name,
        }
        self.log = data / "proxy.log"
        command = ["spendmeter_local.proxy", "--config", str(CONFIG), "--port", str(port)]
        self._process = start_child([sys.executable, "-m", *command], log=self.log, env=self._env)

    def wait_ready(self) -> None:
        def is_ready() -> bool:
            ended = self._process.poll() is not None
            answers = http_answers(f"{self.url}/health/liveliness")
            return ended or (answers and says_ready(f"{self._metrics_url}/metrics"))

        assert wait_until(is_ready, timeout_seconds=START_WITHIN_SECONDS), self.said()
        assert self._process.poll() is None, self.said()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        kill_child(self._process)

    def stop(self) -> None:
        """End it as a rolling update does."""
        stop_child(self._process, grace_seconds=START_WITHIN_SECONDS)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def admin(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """A call of the key API with the master key."""
        headers = {"Authorization": f"Bearer {self._env['SPENDMETER_MASTER_KEY']}"}
        answer = self._http.request(method, self.url + path, headers=headers, **arguments)
        assert answer.status_code == 200, (answer.text, self.said())
        return dict(answer.json())

    def spent(self, key: str) -> int:
        """What this proxy's gateway knows the key to have spent, in nano-USD: `/key/info`."""
        info = self.admin("GET", "/key/info", params={"key": key})["info"]
        return nanousd_of(info["spend"])

    def metric(self, name: str) -> float:
        """The sum of one metric over its labels."""
        lines = self._http.get(f"{self._metrics_url}/metrics").text.splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{"))
        )


@dataclass
class Stack:
    """Everything that runs, and the way to each part."""

    settings: GatewaySettings
    proxies: list[Proxy]
    upstream: Upstream
    history: Client
    http: httpx.Client

    @property
    def first(self) -> Proxy:
        return self.proxies[0]

    @property
    def second(self) -> Proxy:
        return self.proxies[1]

    def change(self, change: Callable[[SpendmeterClient], Any]) -> Any:
        """Do something with the client that services use."""

        async def do() -> Any:
            async with connect(self.settings) as client:
                return await change(client)

        return asyncio.run(do())


@contextmanager
def gateway_on(stack: Stack, data: Path, name: str) -> Iterator[Gateway]:
    """The gateway alone, as a process that starts on this disk has it."""
    gateway = Gateway(stack.settings.model_copy(update={"data_dir": data, "gateway": name}))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
