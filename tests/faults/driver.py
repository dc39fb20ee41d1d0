"""One run: the stack starts, traffic flows, faults strike, everything settles and is judged."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from spendmeter.client import connect
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import from_usd
from spendmeter.runtime.endpoints import Endpoints
from spendmeter.settings import Settings
from tests.faults.alerts import BUDGET as ALERTING
from tests.faults.alerts import WARN_AT_PERCENT, alerting_limit
from tests.faults.canary import Canary
from tests.faults.cluster import Cluster
from tests.faults.hand import NAME as HAND
from tests.faults.hand import Hand
from tests.faults.inject import Injector
from tests.faults.ledger import Ledger, Requests
from tests.faults.process import StackProcess
from tests.faults.report import Injected, Outcome
from tests.faults.schedule import EVERY_KIND, FULL, Fault, Kind, Pace, schedule
from tests.faults.settle import Settled, Settler
from tests.faults.stack import gateway_names, spare
from tests.faults.traffic import GatewayTraffic, ProxyTraffic
from tests.faults.verdict import PROXY
from tests.faults.waiting import until
from tests.faults.watch import Watch

RECOVERY_TIMEOUT_SECONDS = 180.0
WARM_UP_SECONDS = 120.0
ENOUGH_WITHIN_SECONDS = 3600.0
PROXY_CLIENTS = 4
VIRTUAL_KEYS = 3
BUDGETS = {
    "everything": ({}, "lifetime"),
    "per-key": ({"key": "*"}, "lifetime"),
    "by-gateway": ({"gateway": "*"}, "hour"),
}


@dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    seed: int
    faults: int
    events: int
    rate: float = 60.0
    """Events a second of each gateway without LiteLLM."""
    workers: int = 2
    gateways: int = 2
    nodes: int = 1
    """Of Kafka."""
    settles_between: bool = True
    """Everything is compared once more before the faults under which events are really lost."""
    pace: Pace = FULL
    kinds: Sequence[Kind] = EVERY_KIND
    minutes: float | None = None
    """After which nothing fails any more but the disk, whatever is left of the schedule."""
    has_canary: bool = False
    """Whether `spendmeter canary` runs beside it."""


class Run:
    """One stack, its traffic, and what is done to it."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._process = StackProcess(
            directory, workers=plan.workers, gateways=plan.gateways, nodes=plan.nodes
        )
        self._ledger, self._requests = Ledger(), Requests()
        self._other: list[str] = []
        self._canary: Canary | None = None

    async def run(self) -> Outcome:
        """Start, disturb, settle, judge, stop."""
        plan = schedule(self._plan.seed, self._plan.faults, self._plan.pace, self._plan.kinds)
        say(f"seed {self._plan.seed}: {len(plan)} faults")
        for fault in plan:
            say(str(fault))
        begun = time.time()
        try:
            endpoints = await self._process.start()
            say(f"ready in {time.time() - begun:.0f} s; logs in {self._process.stack.path / 'logs'}")
            async with self._flowing(endpoints) as (gateways, spare_traffic, proxy, watch, hand):
                cluster = Cluster(endpoints.kafka_bootstrap, self._plan.seed)
                injector = Injector(
                    self._process,
                    gateways,
                    hand,
                    self._requests,
                    cluster,
                    spare_traffic,
                    self._plan.workers,
                    self._plan.seed,
                )
                sources = [PROXY, *(gateway.name for gateway in gateways)]
                if await watch.recovered(sources, time.time(), WARM_UP_SECONDS) is None:
                    raise AssertionError("no traffic flows, before any fault")
                settler = Settler(
                    self._process,
                    self._ledger,
                    self._requests,
                    gateways,
                    proxy,
                    hand,
                    alerting_limit(self._plan.events),
                    self._other,
                    self._canary,
                )
                began, injected = time.monotonic(), list[Injected]()
                settled: list[Settled] = []
                for loses in (False, True):
                    faults = [fault for fault in plan if fault.kind.loses is loses]
                    for fault in faults:
                        if loses or not self._is_time_up(began):
                            injected.append(await self._inject(fault, injector, watch, sources))
                    if not loses:
                        await self._until_enough(gateways)
                    if faults and (loses or self._plan.settles_between or not plan[-1].kind.loses):
                        settled.append(await settler.settle())
                        say(f"settled: {settled[-1].events}")
                        settler.resume()
            return self._outcome(begun, injected, settled)
        finally:
            await asyncio.to_thread(self._process.stop)

    def _outcome(self, begun: float, injected: list[Injected], settled: list[Settled]) -> Outcome:
        last = settled[-1]
        if not settled[0].verdict.is_clean or settled[0].totals_differ:
            # What was wrong then stays wrong, or else it was wrong for a while, which is no better.
            self._other.append(f"before the last faults: {settled[0].totals_differ or settled[0].verdict}")
        return Outcome(
            self._plan.seed,
            time.time() - begun,
            injected,
            last.verdict,
            last.totals_differ,
            self._other,
            last.events,
            [one.reconcile for one in settled],
            self._restarts(),
            self._canary.rounds if self._canary is not None else [],
        )

    def _is_time_up(self, began: float) -> bool:
        minutes = self._plan.minutes
        return minutes is not None and time.monotonic() - began > 60 * minutes

    async def _inject(
        self, fault: Fault, injector: Injector, watch: Watch, sources: Sequence[str]
    ) -> Injected:
        await asyncio.sleep(fault.pause_seconds)
        began = time.time()
        await injector.inject(fault)
        ended = time.time()
        recovered = await watch.recovered(sources, ended, RECOVERY_TIMEOUT_SECONDS)
        say(
            f"{fault.number:>4}  {fault.kind!s:<34} lasted {ended - began:5.1f} s, recovered in"
            f" {'-' if recovered is None else format(recovered, '.1f')} s; {self._events()} events"
        )
        if recovered is None:
            self._other.append(f"fault {fault.number}: not recovered: {watch.behind(ended)}")
        if watch.doubles:
            self._other.append(f"fault {fault.number}: {watch.doubles} raw rows of one place more than once")
        return Injected(fault, began, ended, recovered)

    async def _until_enough(self, gateways: Sequence[GatewayTraffic]) -> None:
        if self._events() >= self._plan.events:
            return
        say(f"{self._plan.events - self._events()} events more")
        for gateway in gateways:
            gateway.rate = 20 * self._plan.rate
        await until(lambda: self._events() >= self._plan.events, ENOUGH_WITHIN_SECONDS, "enough events")

    def _events(self) -> int:
        return self._ledger.counts["recorded"] + self._requests.answered

    @contextlib.asynccontextmanager
    async def _flowing(
        self, endpoints: Endpoints
    ) -> AsyncIterator[tuple[list[GatewayTraffic], GatewayTraffic, ProxyTraffic, Watch, Hand]]:
        settings = Settings(kafka_bootstrap=endpoints.kafka_bootstrap)
        await _apply_budgets(settings, self._plan.events)
        *keys, canary_key = await _virtual_keys(endpoints)
        seeds = count(self._plan.seed)
        *gateways, spare_traffic = (
            GatewayTraffic(name, self._process.port(name), self._ledger, self._plan.rate, next(seeds))
            for name in (*gateway_names(self._plan.gateways), spare("gateway"))
        )
        spare_traffic.pause()
        proxy = ProxyTraffic(endpoints.proxy_url, keys, self._requests, PROXY_CLIENTS, next(seeds))
        watch = Watch(
            endpoints.kafka_bootstrap, endpoints.clickhouse_dsn, "by-gateway|gateway=", settings.partitions
        )
        runs = [
            *(gateway.run() for gateway in (*gateways, spare_traffic)),
            proxy.run(),
            watch.follow_totals(),
        ]
        if self._plan.has_canary:
            self._canary = Canary(self._process.stack.path, canary_key, self._requests)
            runs.append(self._canary.run())
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            yield gateways, spare_traffic, proxy, watch, Hand(settings, self._ledger, next(seeds))
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    self._other.append(f"traffic ended: {ended!r}")

    def _restarts(self) -> dict[str, str]:
        """What the supervisor had to start again, beside what we killed."""
        kills = self._process.kills
        return {
            name: f"{component.restarts}, by kill -9: {kills.get(name, 0)}, last: {component.last_exit}"
            for name, component in self._process.status().components.items()
            if component.restarts
        }


async def _apply_budgets(settings: Settings, events: int) -> None:
    now = datetime.now(UTC)
    budgets: list[dict[str, Any]] = [
        {"id": name, "match": match, "period": period, "limit_nanousd": from_usd("1000000")}
        for name, (match, period) in BUDGETS.items()
    ]
    budgets.append(
        {
            "id": ALERTING,
            "match": {},
            "period": "lifetime",
            "limit_nanousd": alerting_limit(events),
            "warn_at": [percent / 100 for percent in WARN_AT_PERCENT],
            "action": "warn",
        }
    )
    async with connect(settings) as client:
        await client.apply([Budget.model_validate({**fields, "updated_at": now}) for fields in budgets])


async def _virtual_keys(endpoints: Endpoints) -> list[str]:
    headers = {"Authorization": f"Bearer {endpoints.proxy_master_key}"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as http:
        keys = []
        for number in range(VIRTUAL_KEYS + 1):
            alias = {"key_alias": f"{HAND}-{number}"}
            async with http.post(f"{endpoints.proxy_url}/key/generate", json=alias) as answer:
                keys.append((await answer.json())["key"])
    return keys


def say(line: str) -> None:
    print(line, flush=True)
