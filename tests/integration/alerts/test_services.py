"""Apprise and Alertmanager, as they meet a real HTTP server; and the command, as an operator meets it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from spendmeter.contract.alert import DeliveryOutcome
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.probes import wait_until
from spendmeter_sinks.alerts.message import MessageContext, render
from spendmeter_sinks.alerts.receivers import Accepted, Answer, Later, Refused, receiver_of
from spendmeter_sinks.alerts.routes import Route, Service, Target
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.alerts import NOW, SECRET, alert, webhook
from tests.integration.alerts.conftest import Put, Running
from tests.integration.alerts.receiver import HttpServer, Reply
from tests.integration.alerts.test_relay import deliveries

COMMAND = [sys.executable, "-c", "from spendmeter.cli.entry import main; main()", "alerts"]
HIDDEN = "hidden-in-the-url"
WITHIN_SECONDS = 120


def apprise(server: HttpServer) -> Target:
    url = f"json://ann:{HIDDEN}@127.0.0.1:{server.port}/hook?rto=1&cto=1"
    return Target(Service.APPRISE, SecretStr(url), None, "CHAT_URL")


async def offered(target: Target) -> Answer:
    receiver = receiver_of(target, 1.0)
    try:
        return await receiver.offer(render(webhook(""), alert(at=NOW), MessageContext()))
    finally:
        await receiver.close()


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply(), Accepted()),
        (Reply(403), Refused("HTTP 403")),
        (Reply(500), Later("HTTP 500")),
        (Reply(429, {"Retry-After": "7"}), Later("HTTP 429", 7.0)),
    ],
)
@pytest.mark.parametrize("service", ["apprise", "webhook", "alertmanager"])
async def test_what_a_status_means_is_the_same_for_every_service(
    service: str, reply: Reply, answer: Answer, server: HttpServer
) -> None:
    server.behave = lambda n: reply
    target = apprise(server) if service == "apprise" else Target(Service(service), SecretStr(server.url))

    assert await offered(target) == answer


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("service", ["apprise", "webhook"])
async def test_a_redirect_leads_no_service_to_another_host(
    service: str, status: int, server: HttpServer
) -> None:
    """Such as the page for signing in, which says 200 to everybody."""
    async with HttpServer.started() as another:
        server.behave = lambda n: Reply(status, {"Location": f"{another.url}/login"})
        target = apprise(server) if service == "apprise" else Target(Service(service), SecretStr(server.url))

        assert await offered(target) == Refused(f"HTTP {status}: it has moved; give the new URL")
        assert another.requests == []


async def test_what_a_service_accepts_late_is_not_sent_again(server: HttpServer) -> None:
    accepts = asyncio.Event()
    server.behave = lambda n: Reply(when=accepts)
    target = apprise(server)._replace(url=SecretStr(f"json://127.0.0.1:{server.port}/hook?rto=60"))
    receiver = receiver_of(target, 0.2)
    message = render(webhook(""), alert(at=NOW), MessageContext())

    first = await receiver.offer(message)
    accepts.set()
    answers = [await receiver.offer(message), await receiver.offer(message._replace(id="another"))]
    await receiver.close()

    assert isinstance(first, Later)
    assert answers == [Accepted(), Accepted()]
    assert len(server.requests) == 2, "each message once"


async def test_a_service_may_take_as_long_as_the_setting_says(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apprise.url.URLBase.socket_read_timeout", 0.05)
    accepts = asyncio.Event()
    server.behave = lambda n: Reply(when=accepts)
    receiver = receiver_of(Target(Service.APPRISE, SecretStr(f"json://127.0.0.1:{server.port}/hook")), 60.0)
    offer = asyncio.create_task(receiver.offer(render(webhook(""), alert(at=NOW), MessageContext())))
    await server.until(lambda: len(server.requests) == 1)
    asyncio.get_running_loop().call_later(0.2, accepts.set)

    assert await offer == Accepted()
    await receiver.close()


@pytest.mark.parametrize("make", [apprise, lambda s: Target(Service.WEBHOOK, SecretStr(f"{s.url}/{HIDDEN}"))])
async def test_a_receiver_that_hangs_or_is_gone_is_offered_it_later_and_its_url_is_not_shown(
    make: Callable[[HttpServer], Target], server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.behave = lambda n: Reply(hang=True)
    hung = await offered(make(server))
    await server.stop()
    gone = await offered(make(server))

    assert isinstance(hung, Later)
    assert isinstance(gone, Later)
    assert HIDDEN not in f"{hung} {gone} {caplog.text} {make(server)!r}"


async def test_a_message_through_apprise_arrives_whole(
    server: HttpServer, put: Put, running: Running, settings: AlertSettings
) -> None:
    sent = alert()
    async with running([Route("chat", apprise(server))]):
        await put([sent])
        await server.until_accepted(1)

    [received] = server.requests
    assert received.json["title"] == "Budget spent: team research"
    assert received.json["message"].startswith("$50 of $50 (100 %) since")
    assert received.json["type"] == "failure"
    [_, delivery] = (await deliveries(settings)).values()
    assert delivery.outcome is DeliveryOutcome.SENT


async def test_alertmanager_gets_a_list(server: HttpServer, put: Put, running: Running) -> None:
    async with running([Route("am", Target(Service.ALERTMANAGER, SecretStr(server.url)))]):
        await put([alert()])
        await server.until_accepted(1)

    [received] = server.requests
    assert received.path == "/api/v2/alerts"
    assert [one["labels"]["alertname"] for one in received.json] == ["SpendmeterBudgetExceeded"]


async def test_the_command_relays_and_its_log_has_no_secret(
    server: HttpServer, put: Put, settings: AlertSettings, tmp_path: Path
) -> None:
    server.behave = lambda n: Reply(401 if n < 3 else 503 if n < 5 else 200)
    (tmp_path / "alerts.yaml").write_text(
        "routes:\n  - {name: hook, to: {webhook: {url_env: HOOK_URL, secret_env: HOOK_SECRET}}}\n"
    )
    env = {
        "HOOK_URL": f"{server.url}/{HIDDEN}",
        "HOOK_SECRET": SECRET,
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_ALERTS_ROUTES": str(tmp_path / "alerts.yaml"),
        "SPENDMETER_LOG_LEVEL": "DEBUG",
    }
    log = tmp_path / "log"
    relay = start_child([*COMMAND, "relay"], log=log, env=env)

    def has_begun() -> bool:
        return "relaying alerts on 1 routes" in log.read_text()

    try:
        assert await asyncio.to_thread(wait_until, has_begun, timeout_seconds=WITHIN_SECONDS), log.read_text()
        skipped, sent = alert(team="a"), alert(team="b")
        await put([skipped])
        await server.until(lambda: len(server.requests) == 3)
        await put([sent])
        await server.until_accepted(1)
        relay.terminate()
        assert await asyncio.to_thread(relay.wait, WITHIN_SECONDS) == 0, log.read_text()
    finally:
        kill_child(relay)

    said = log.read_text()
    for args in (["log", "--outcome", "skipped"], ["preview"], ["test", "hook"]):
        said += await asyncio.to_thread(called, args, env)
    assert "Traceback" not in said
    assert HIDDEN not in said
    assert SECRET[6:] not in said
    assert "refused: HTTP 401; 3 attempts" in said
    assert "hook (webhook HOOK_URL), at once" in said
    assert "hook: accepted by the receiver (HOOK_URL)" in said
    assert server.requests[-1].json["data"]["title"] == "Budget spent: team research"


def called(args: list[str], env: dict[str, str]) -> str:
    """What a command says."""
    ended = subprocess.run(
        [*COMMAND, *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr
