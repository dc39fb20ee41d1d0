"""compose.yaml at work: each service's own command and environment, on a real broker and the real engine.

The broker has users, and each service is the one that deploy/kubernetes/examples makes for its process: what
is granted there is enough.

LiteLLM runs without its database here, whose client is made by a download of Prisma's: so it has one key, and
budgets are those of the end users that requests name.
"""

import asyncio
import http.server
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from spendmeter.contract.topics import Topic
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.ports import LOOPBACK, free_port
from spendmeter_local.probes import http_answers, says_ready, wait_until
from tests.deployment import initialised, run_tool
from tests.integration.deploy.conftest import PASSWORD
from tests.integration.deploy.containers import Containers
from tests.patience import WITHIN_SECONDS

BUDGET = """
budgets:
  - {id: per-end-user, match: {end_user: "*"}, limit_usd: "0.0005", period: day, action: block}
"""
MAX_REQUESTS = 200
READY_WITHIN_SECONDS = 240


class Alertmanager(http.server.BaseHTTPRequestHandler):
    """Accepts alerts as Alertmanager's API does."""

    accepted: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.accepted += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if self.path == "/api/v2/alerts" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def alertmanager() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    accepted: list[dict[str, Any]] = []
    handler = type("Handler", (Alertmanager,), {"accepted": accepted})
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"{LOOPBACK}:{server.server_port}", accepted
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    """The model server's URL."""
    port = free_port()
    command = [sys.executable, "-m", "spendmeter_local.upstream", "--port", str(port)]
    process = start_child(command, log=tmp_path / "upstream.log")
    yield f"http://{LOOPBACK}:{port}"
    kill_child(process)


@pytest.fixture
def containers(
    guarded: str,
    clickhouse: str,
    database: str,
    upstream: str,
    alertmanager: tuple[str, list[dict[str, Any]]],
    tmp_path: Path,
) -> Iterator[Containers]:
    folder = initialised(tmp_path)
    with (folder / ".env").open("a") as file:
        file.write(f"OPENAI_API_KEY=sk-upstream\nOPENAI_BASE_URL={upstream}/v1\n")
    routes = folder / "alerts.yaml"
    routes.write_text(routes.read_text().replace("alertmanager:9093", alertmanager[0]))
    engine = urlsplit(clickhouse)
    servers = {"kafka:9092": guarded, "clickhouse:8123": f"{engine.hostname}:{engine.port}"}
    sasl = {
        "SPENDMETER_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SPENDMETER_KAFKA_SASL_MECHANISM": "PLAIN",
        "SPENDMETER_KAFKA_SASL_PASSWORD": PASSWORD,
    }
    history = {
        # Other tests are on this engine, too. It knows one user; users.sql has a test of its own.
        "SPENDMETER_CLICKHOUSE_DATABASE": database,
        "SPENDMETER_CLICKHOUSE_USER": engine.username,
        "SPENDMETER_CLICKHOUSE_PASSWORD": engine.password,
    }
    # Without its database; and else it would fetch its price list.
    litellm = {"DATABASE_URL": None, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    found = Containers(folder, tmp_path / "data", servers)
    for name, service in found.services.items():
        if "build" in service:
            user = {"SPENDMETER_KAFKA_SASL_USERNAME": f"spendmeter-{service['build']['target']}"}
            found.instead[name] = {**sasl, **user}
    for name in ("schema", "sink", "watch", "web", "cli"):
        found.instead[name] |= history
    found.instead["gateway"] |= litellm
    # The only key there is.
    found.instead["canary"]["SPENDMETER_CANARY_KEY"] = found.environment("gateway")["LITELLM_MASTER_KEY"]
    found.services["canary"]["command"] = ["--within", "0.1"]
    yield found
    found.kill()


def test_a_request_is_metered_refused_and_served_again(
    containers: Containers, guarded: str, upstream: str, alertmanager: tuple[str, list[dict[str, Any]]]
) -> None:
    page = sign_in(containers)
    for job in ("topics", "schema"):
        done = containers.run(job)
        assert done.returncode == 0, f"{job}: {done.stderr}"
    start(containers, *(name for name in containers.processes if name != "canary"))
    assert wait_until(lambda: http_answers(f"{upstream}/health"), timeout_seconds=WITHIN_SECONDS)
    assert cli(containers, "budget", "apply", "-", stdin=BUDGET).startswith("+ new")

    served, refused = spend_all(containers)

    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith("Budget has been exceeded!")
    assert len(served) > 1
    assert wait_until(
        lambda: page("spend")["total"]["requests"] == len(served), timeout_seconds=WITHIN_SECONDS
    )
    assert Decimal(page("spend")["total"]["spent_usd"]) == sum(served)
    assert [one["id"] for one in page("budgets")["budgets"]] == ["per-end-user"]
    assert wait_until(lambda: kinds(alertmanager[1]) >= {"exceeded"}, timeout_seconds=WITHIN_SECONDS)

    cli(containers, "budget", "set", "per-end-user", "--limit-usd", "1")

    assert wait_until(lambda: ask(containers).status_code == 200, timeout_seconds=WITHIN_SECONDS)
    watched = containers.run("watch", "--once")
    assert watched.returncode == 0, watched.stderr
    assert {"drift: nothing found", "gateways: nothing found"} <= set(watched.stdout.splitlines())
    start(containers, "canary")
    # The master key is no virtual key, so its budget refuses nobody: but it was written, and requests served.
    assert wait_until(lambda: rounds_failed_at(containers, "refusal") >= 1, timeout_seconds=WITHIN_SECONDS), (
        containers.log("canary").read_text()
    )
    assert {name: containers.stop(name) for name in [*containers.running]} == dict.fromkeys(
        containers.processes, True
    )
    [outbox] = (containers.data / "volumes").iterdir()
    assert any(outbox.rglob("*"))
    logs = {name: containers.log(name).read_text() for name in containers.processes}
    assert [name for name, text in logs.items() if "authoriz" in text.lower()] == []
    with pytest.raises(TopicAuthorizationFailedError):
        asyncio.run(write_a_budget(guarded, "spendmeter-relay"))


async def write_a_budget(bootstrap: str, user: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username=user,
        sasl_plain_password=PASSWORD,
    )
    async with producer:
        await producer.send_and_wait(Topic.BUDGETS, b"{}")


def start(containers: Containers, *names: str) -> None:
    for name in names:
        containers.start(name)
    for name in names:
        assert becomes_healthy(containers, name), f"{name}: {containers.log(name).read_text()[-3000:]}"


def rounds_failed_at(containers: Containers, where: str) -> float:
    page = httpx.get(f"http://{LOOPBACK}:{containers.port('canary', 9464)}/metrics", timeout=WITHIN_SECONDS)
    [failed] = re.findall(rf'(?m)^spendmeter_canary_failures_total{{where="{where}"}} (\S+)$', page.text)
    return float(failed)


def becomes_healthy(containers: Containers, service: str) -> bool:
    """What its own healthcheck says, asked once the process says that it is ready."""
    metrics = f"http://{LOOPBACK}:{containers.port(service, 9464)}/metrics"
    wait_until(
        lambda: containers.has_ended(service) or says_ready(metrics), timeout_seconds=READY_WITHIN_SECONDS
    )
    return not containers.has_ended(service) and wait_until(
        lambda: containers.is_healthy(service), timeout_seconds=READY_WITHIN_SECONDS, every_seconds=1
    )


def cli(containers: Containers, *arguments: str, stdin: str = "") -> str:
    done = containers.run("cli", *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(containers: Containers) -> httpx.Response:
    key = containers.environment("gateway")["LITELLM_MASTER_KEY"]
    return httpx.post(
        f"http://{LOOPBACK}:{containers.port('gateway', 4000)}/v1/chat/completions",
        headers={"Authorization": f"Bearer {key}"},
        json={
            "model": "gpt-4o",
            "user": "ann",
            "messages": [{"role": "user", "content": "What is a budget?"}],
        },
        timeout=WITHIN_SECONDS,
    )


def spend_all(containers: Containers) -> tuple[list[Decimal], httpx.Response]:
    """What the served requests cost, in USD, and the one that was refused."""
    served: list[Decimal] = []
    for _ in range(MAX_REQUESTS):
        answer = ask(containers)
        if answer.status_code != 200:
            return served, answer
        served.append(Decimal(answer.headers["x-litellm-response-cost"]))
    pytest.fail(f"{MAX_REQUESTS} requests were served for ${sum(served)}")


def kinds(alerts: list[dict[str, Any]]) -> set[str]:
    return {alert["labels"].get("kind", "") for alert in alerts}


def sign_in(containers: Containers) -> Callable[[str], Any]:
    """What the page's API answers to whoever has the token that init.sh shows."""
    (containers.folder / "people.yaml").unlink()
    token = run_tool("bash", "init.sh", cwd=containers.folder).stdout.split()[-1]
    url = f"http://{LOOPBACK}:{containers.port('web', 8180)}/v1"

    def read(what: str) -> Any:
        assert httpx.get(f"{url}/{what}", timeout=WITHIN_SECONDS).status_code == 401
        answer = httpx.get(
            f"{url}/{what}", headers={"Authorization": f"Bearer {token}"}, timeout=WITHIN_SECONDS
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    return read
