"""A drift that was made on purpose is said once and relayed once; nothing is said while all is equal."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from spendmeter.cli.status import ClusterStatus, _ask_clickhouse
from spendmeter.contract.alert import Alert
from spendmeter.history.reconciles import ReconcileOutcome, last_equal, last_reconcile
from spendmeter_sinks.alerts.receivers import receiver_of
from spendmeter_sinks.alerts.relay import relay
from spendmeter_sinks.alerts.settings import AlertSettings
from spendmeter_sinks.watch.drift import Drift
from spendmeter_sinks.watch.run_log import published
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.watcher import Watcher
from tests.alerts import webhook
from tests.builders import budget
from tests.integration.alerts.receiver import HttpServer
from tests.integration.sinks.test_reconcile import System, now_usage, rewrite, running_system
from tests.patience import WITHIN_SECONDS


@pytest.fixture(scope="module")
def system(kafka: str, clickhouse: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A stream worker and a sink, and topics and a database of their own."""
    with running_system(kafka, clickhouse, tmp_path_factory.mktemp("watched")) as running:
        yield running


def settings_of(kind: Any, system: System, **more: Any) -> Any:
    return kind(
        kafka_bootstrap=system.settings.kafka_bootstrap,
        clickhouse_url=system.settings.clickhouse_url,
        clickhouse_database=system.settings.clickhouse_database,
        topic_prefix=system.settings.topic_prefix,
        **more,
    )


async def run(system: System) -> list[Alert]:
    settings = settings_of(WatchSettings, system, watch_reconcile_wait_seconds=WITHIN_SECONDS)
    check = Drift(settings)
    found = await Watcher(settings, [check]).run_now(check)
    assert found is not None
    return [one.alert for one in found if one.is_new]


@asynccontextmanager
async def relaying(settings: AlertSettings, url: str) -> AsyncIterator[None]:
    stop, ready, route = asyncio.Event(), asyncio.Event(), webhook(url)
    working = asyncio.create_task(relay(settings, [route], [receiver_of(route.target, 5)], stop, ready=ready))
    try:
        await asyncio.wait_for(ready.wait(), WITHIN_SECONDS)
        yield
    finally:
        stop.set()
        await working


async def test_what_was_added_to_history_is_said_once_and_relayed_once(system: System) -> None:
    async with (
        HttpServer.started() as server,
        relaying(settings_of(AlertSettings, system), server.url),
        system.stream() as stream,
    ):
        await stream.client.apply([budget(id="all", match={"key": "*"}, period="lifetime")])
        events = [now_usage(n, 10 * n, producer_id="p", key="k") for n in (1, 2)]
        await stream.send(events)

        assert await run(system) == []
        equal = last_reconcile(system.history)
        assert equal is not None
        assert (equal.outcome, equal.events, equal.accounts) == (ReconcileOutcome.EQUAL, 2, 1)

        invented = uuid4()
        rewrite(
            system,
            f"INSERT INTO usage SELECT * REPLACE ('{invented}' AS event_id, 3 AS seq)"
            f" FROM (SELECT * FROM usage WHERE event_id = '{events[1].event_id}')",
        )
        said = await asyncio.to_thread(watch_once, system)
        differs = last_reconcile(system.history)
        assert differs is not None
        assert differs.alert_id is not None
        assert (differs.outcome, differs.differences) == (ReconcileOutcome.DIFFERS, 1)
        assert "totals have $0.00000002 less than history" in said
        assert str(invented) in said
        await until_stored(system, differs.alert_id)
        status = ClusterStatus()
        await asyncio.to_thread(_ask_clickhouse, status, system.settings)
        assert status.reconciled == differs
        assert [one for one in status.problems if "signals and history differ: 1 difference in" in one]
        assert await run(system) == []
        assert last_equal(system.history) == equal.checked_at

        rewrite(system, f"ALTER TABLE usage DELETE WHERE event_id = '{invented}'")
        assert await run(system) == []
        latest = last_reconcile(system.history)
        assert latest is not None
        assert last_equal(system.history) == latest.checked_at > differs.checked_at
        await server.until_accepted(1)

    assert [one.id for one in server.requests] == [str(differs.alert_id)]


def watch_once(system: System) -> str:
    command = [sys.executable, "-m", "spendmeter_sinks.watch", "--once", "drift"]
    env = {**os.environ, **system.env(), "SPENDMETER_WATCH_RECONCILE_WAIT_SECONDS": f"{WITHIN_SECONDS:g}"}
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=5 * WITHIN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_stored(system: System, alert: Any) -> None:
    is_stored = False
    async with asyncio.timeout(WITHIN_SECONDS):
        while not is_stored:
            await asyncio.sleep(0.05)
            is_stored = await asyncio.to_thread(lambda: bool(published(system.history, [alert])))
