"""Receivers that fail, hang, limit and restart, and a relay that is killed: nothing is lost, and what comes
twice has the same id. `make relay` does it with 10,000 alerts and prints the figures.
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter_local.children import kill_child, start_child
from spendmeter_local.probes import wait_until
from spendmeter_sinks.alerts.settings import AlertSettings
from tests.alerts import SECRET, alert
from tests.integration.alerts.conftest import Put
from tests.integration.alerts.receiver import HttpServer, Reply

ALERTS = int(os.environ.get("SPENDMETER_RELAY_ALERTS", "200"))
SEED = 17
PER_SECOND = 50 if ALERTS < 1_000 else 20
KILLS = max(1, min(5, ALERTS // 2_000))
GOOD, FAILS, HANGS, LIMITS, RESTARTS = "good", "fails", "hangs", "limits", "restarts"
NAMES = (GOOD, FAILS, HANGS, LIMITS, RESTARTS)
LIMIT_PER_SECOND = 100
COMMAND = [sys.executable, "-c", "from spendmeter.cli.entry import main; main()", "alerts", "relay"]
BEGIN_WITHIN_SECONDS, SETTLE_WITHIN_SECONDS = 120, 1_200


def behaviour(name: str, seed: int) -> Callable[[int], Reply]:
    """What a receiver answers, by chance from the seed."""
    chance, window = random.Random(f"{seed}/{name}"), [0, 0]

    def limits(number: int) -> Reply:
        second = int(time.monotonic())
        window[:] = [second, window[1] + 1 if window[0] == second else 1]
        return Reply() if window[1] <= LIMIT_PER_SECOND else Reply(429, {"Retry-After": "1"})

    behave: dict[str, Callable[[int], Reply]] = {
        FAILS: lambda n: Reply(chance.choice((500, 502, 503, 408))) if chance.random() < 0.2 else Reply(),
        # As often as a run bears: each costs the relay its time limit.
        HANGS: lambda n: Reply(hang=chance.random() < min(0.02, 20 / ALERTS)),
        LIMITS: limits,
    }
    return behave.get(name, lambda n: Reply())


def made(number: int) -> Alert:
    kinds = (AlertKind.THRESHOLD, AlertKind.EXCEEDED, AlertKind.FORECAST)
    return alert(kinds[number % 3], number=number, user=f"u{number % 97}")


@asynccontextmanager
async def restarting(server: HttpServer, chance: random.Random) -> AsyncIterator[None]:
    """The server is gone now and then."""

    async def restart() -> None:
        while True:
            await asyncio.sleep(0.5 + 2 * chance.random())
            await server.stop()
            await asyncio.sleep(chance.random())
            await server.start()

    work = asyncio.create_task(restart())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait([work])
        await server.stop()
        await server.start()


class Relay:
    """The command, killed and started again."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._env, self._log, self._starts = env, log, 0

    async def start(self) -> None:
        self._starts += 1
        self._child = start_child(COMMAND, log=self._log, env=self._env)

        def has_begun() -> bool:
            return self._log.read_text().count("relaying alerts on") >= self._starts

        begun = await asyncio.to_thread(wait_until, has_begun, timeout_seconds=BEGIN_WITHIN_SECONDS)
        assert begun, self._log.read_text()[-2_000:]

    def kill(self) -> None:
        kill_child(self._child)


async def test_nothing_is_lost_and_what_comes_twice_has_the_same_id(
    settings: AlertSettings, put: Put, tmp_path: Path
) -> None:
    sent = [made(number) for number in range(ALERTS)]
    wanted = {str(one.alert_id) for one in sent}
    chance = random.Random(SEED)
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(HttpServer.started()) for name in NAMES}
        for name, server in servers.items():
            server.behave = behaviour(name, SEED)
        relay = Relay(_environment(settings, servers, tmp_path), tmp_path / "log")
        await relay.start()
        stack.callback(relay.kill)
        async with restarting(servers[RESTARTS], chance):
            produced = await _produce(put, sent[: ALERTS // 2])
            await _settled(servers[GOOD], {str(one.alert_id) for one in sent[: ALERTS // 2]})
            undisturbed = dict(produced)
            share = -(-(ALERTS - ALERTS // 2) // KILLS)
            for kill in range(KILLS):
                begin = ALERTS // 2 + kill * share
                await put(sent[begin : begin + share])
                quarter = {str(one.alert_id) for one in sent[begin : begin + share // 4]}
                await _settled(servers[GOOD], quarter)
                relay.kill()
                await relay.start()
        for server in servers.values():
            await _settled(server, wanted)
        relay.kill()

    for name, server in servers.items():
        came = Counter(one.id for one in server.accepted)
        assert set(came) == wanted, name
        for one in server.requests:
            assert [found["alert_id"] for found in one.json["data"]["alerts"]] == [one.id]
        twice = sum(came.values()) - len(came)
        print(
            f"\n{name}: {len(came)} arrived, 0 lost, {twice} came twice, {len(server.requests)} offers",
            end="",
        )
    first = {one.id: one.at for one in reversed(servers[GOOD].accepted)}
    waits = sorted(first[one] - at for one, at in undisturbed.items())
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(f"\nfrom crossing to the good receiver: p50 {1e3 * p50:.0f} ms, p99 {1e3 * p99:.0f} ms")
    assert "Traceback" not in (tmp_path / "log").read_text()


def _environment(settings: AlertSettings, servers: dict[str, HttpServer], folder: Path) -> dict[str, str]:
    hook = "{{webhook: {{url: '{}', secret_env: HOOK_SECRET}}}}"
    routes = [
        f"  - {{name: {name}, continue: true, to: {hook.format(server.url)}}}"
        for name, server in servers.items()
    ]
    (folder / "alerts.yaml").write_text("\n".join(["routes:", *routes]))
    return {
        "HOOK_SECRET": SECRET,
        "SPENDMETER_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SPENDMETER_TOPIC_PREFIX": settings.topic_prefix,
        "SPENDMETER_ALERTS_ROUTES": str(folder / "alerts.yaml"),
        "SPENDMETER_ALERTS_INSTANCE": "only",
        "SPENDMETER_ALERTS_TIMEOUT_SECONDS": "1",
    }


async def _produce(put: Put, alerts: list[Alert]) -> dict[str, float]:
    """Send them at a steady pace; when each was sent, by id."""
    produced, begun = {}, time.monotonic()
    for number, one in enumerate(alerts):
        await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
        produced[str(one.alert_id)] = time.time()
        await put([one])
    return produced


async def _settled(server: HttpServer, wanted: set[str]) -> None:
    """Wait until the server has accepted all of these."""
    left, seen = set(wanted), 0

    def has_all() -> bool:
        nonlocal seen
        left.difference_update(one.id for one in server.requests[seen:] if one.status < 300)
        seen = len(server.requests)
        return not left

    await server.until(has_all, SETTLE_WITHIN_SECONDS)
