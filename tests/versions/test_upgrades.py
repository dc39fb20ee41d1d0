"""Broker and ClickHouse are upgraded on their data, while traffic flows: nothing lost, nothing doubled."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp

from spendmeter.runtime.supported import NEWEST_KAFKA as NEWEST_KAFKA_RELEASE
from spendmeter_local.kafka.broker import find_java
from spendmeter_local.kafka.jars import classpath, fetch_jars
from tests.faults.alerts import alerting_limit
from tests.faults.driver import WARM_UP_SECONDS, Plan, Run, say
from tests.faults.process import StackProcess
from tests.faults.settle import Settled, Settler
from tests.faults.stack import gateway_names
from tests.faults.verdict import PROXY
from tests.versions.conftest import only_in_a_whole_run
from tests.versions.releases import (
    NEWEST_ENGINE,
    NEWEST_KAFKA,
    NEWEST_KAFKA_TOOLS,
    OLDEST_ENGINE,
    OLDEST_KAFKA,
)
from tests.versions.stack import GATEWAYS, WORKERS, Releases

SEED = 20261130
RATE = 20.0
"""Events a second of each gateway without LiteLLM."""
UPGRADED_WITHIN_SECONDS = 300.0
TOOL_WITHIN_SECONDS = 120
METADATA_VERSION = re.compile(r"metadata\.version.*FinalizedVersionLevel: (\S+)")


class UpgradableStack(StackProcess):
    """The stack of tests.versions.stack in a process of its own."""

    def __init__(self, directory: Path, releases: Releases) -> None:
        super().__init__(directory, workers=WORKERS, gateways=GATEWAYS)
        self._command = [sys.executable, "-m", "tests.versions.stack", "--dir", str(self.stack.path)]
        directory.mkdir(parents=True, exist_ok=True)
        releases.write(self.stack)


class UpgradeRun(Run):
    """Traffic, each upgrade in turn, and the oracle's judgement of all of it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Plan(SEED, 0, 0, RATE, WORKERS, GATEWAYS), directory)
        self.releases = Releases(OLDEST_KAFKA.version, OLDEST_ENGINE.version)
        self._process: UpgradableStack = UpgradableStack(directory, self.releases)
        self.paused_seconds: dict[str, float] = {}
        """Upgrade: from its beginning until new events of every source were in totals and history."""
        self.killed: dict[str, str | None] = {}
        """What ended in a way that no upgrade asked of it."""
        self.found: list[str] = []
        """The releases that ran, as the servers themselves say, in their order."""

    async def upgrade(self) -> Settled:
        """Do all of it."""
        sources = [PROXY, *gateway_names(GATEWAYS)]
        upgrades: dict[str, Callable[[], Awaitable[None]]] = {
            "kafka": lambda: self._start_as("kafka", replace(self.releases, kafka=NEWEST_KAFKA.version)),
            "kafka's metadata.version": self._upgrade_metadata,
            "clickhouse": lambda: self._start_as(
                "clickhouse", replace(self.releases, clickhouse=NEWEST_ENGINE.version)
            ),
        }
        try:
            endpoints = await self._process.start()
            async with self._flowing(endpoints) as (gateways, _, proxy, watch, hand):
                assert await watch.recovered(sources, time.time(), WARM_UP_SECONDS) is not None, "no traffic"
                await self._note_releases()
                for name, upgrade in upgrades.items():
                    began = time.time()
                    await upgrade()
                    ended = time.time()
                    recovered = await watch.recovered(sources, ended, UPGRADED_WITHIN_SECONDS)
                    assert recovered is not None, f"{name}: {watch.behind(ended)}"
                    self.paused_seconds[name] = ended - began + recovered
                    await self._note_releases()
                    paused = self.paused_seconds[name]
                    say(f"{name}: {paused:.1f} s; {self._events()} events; {self.found[-1]}")
                settler = Settler(
                    self._process,
                    self._ledger,
                    self._requests,
                    gateways,
                    proxy,
                    hand,
                    alerting_limit(0),
                    self._other,
                )
                settled = await settler.settle()
                self.killed = {
                    name: component.last_exit
                    for name, component in self._process.status().components.items()
                    if "killed" in (component.last_exit or "")
                }
                return settled
        finally:
            await asyncio.to_thread(self._process.stop)

    @property
    def other(self) -> list[str]:
        """Whatever else was not as it should be."""
        return self._other

    async def _start_as(self, component: str, releases: Releases) -> None:
        """Stop it in order; the supervisor starts it again, of the release that it is to be now."""
        self.releases = releases
        releases.write(self._process.stack)
        former = await self._process.pid_other_than(component, None)
        self._process.send(former, signal.SIGTERM)
        await self._process.pid_other_than(component, former)

    async def _upgrade_metadata(self) -> None:
        await asyncio.to_thread(self._features, "upgrade", "--release-version", NEWEST_KAFKA_RELEASE)

    def _features(self, *arguments: str) -> str:
        """`kafka-features.sh`, as docs/reference/versions.md has it."""
        fetch_jars(release=NEWEST_KAFKA_TOOLS)
        jars = os.pathsep.join([classpath(NEWEST_KAFKA), classpath(NEWEST_KAFKA_TOOLS)])
        bootstrap = self._process.endpoints().kafka_bootstrap
        ended = subprocess.run(
            [str(find_java()), "-Xmx128m", "-cp", jars, "org.apache.kafka.tools.FeatureCommand",
             "--bootstrap-server", bootstrap, *arguments],
            capture_output=True, text=True, check=False, timeout=TOOL_WITHIN_SECONDS,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    async def _note_releases(self) -> None:
        described = await asyncio.to_thread(self._features, "describe")
        level = METADATA_VERSION.search(described)
        assert level is not None, described
        url = self._process.endpoints().clickhouse_dsn
        async with aiohttp.ClientSession() as http, http.post(url, data="SELECT version()") as answer:
            engine = (await answer.text()).strip()
        self.found.append(f"metadata.version {level[1]}, ClickHouse {engine}")


@only_in_a_whole_run
def test_nothing_is_lost_and_nothing_doubled_while_kafka_and_clickhouse_are_upgraded(tmp_path: Path) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    for release in (OLDEST_KAFKA, NEWEST_KAFKA):
        fetch_jars(release=release)
    run = UpgradeRun(tmp_path / "stack")

    settled = asyncio.run(run.upgrade())

    assert run.killed == {}
    say(f"{run.found}, paused for {run.paused_seconds}, {settled.events}")
    assert settled.verdict.is_clean, settled.verdict
    assert settled.totals_differ == []
    assert run.other == []
    assert settled.reconcile["equal"] is True, settled.reconcile
    assert settled.verdict.events > 100
    before, *_, after = run.found
    assert "metadata.version 3.9" in before
    assert f"ClickHouse {OLDEST_ENGINE.version}." in before
    assert "metadata.version 4." in after
    assert f"ClickHouse {NEWEST_ENGINE.version}." in after
