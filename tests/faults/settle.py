"""The end of a run: traffic stops, everything arrives, and all counts are laid side by side."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from aiokafka.errors import KafkaError

from tests.faults.alerts import crossed
from tests.faults.canary import Canary
from tests.faults.findings import Findings
from tests.faults.hand import Hand
from tests.faults.ledger import MAX_AHEAD_SECONDS, Ledger, Requests
from tests.faults.process import StackProcess
from tests.faults.stack import seen_alerts
from tests.faults.traffic import KEYS, GatewayTraffic, ProxyTraffic
from tests.faults.verdict import Verdict, compare_totals, judge, may_know
from tests.faults.waiting import until
from tests.integration.garbage.generate import NOBODY

SETTLE_WITHIN_SECONDS = 240.0
LOOK_SECONDS = 3.0
# Doubles may come late: a last look after everything has been right.
HOLD_SECONDS = 5.0
RECONCILE_TIMEOUT_SECONDS = 300


class Settled(NamedTuple):
    """What was found once everything had arrived."""

    verdict: Verdict
    totals_differ: list[str]
    events: dict[str, int]
    reconcile: Any
    """What `spendmeter reconcile --json` says."""


class Settler:
    """Stops the traffic of one run and judges it."""

    def __init__(
        self,
        process: StackProcess,
        ledger: Ledger,
        requests: Requests,
        gateways: Sequence[GatewayTraffic],
        proxy: ProxyTraffic,
        hand: Hand,
        alerting_limit_nanousd: int,
        other: list[str],
        canary: Canary | None = None,
    ) -> None:
        self._process, self._ledger, self._requests = process, ledger, requests
        self._gateways, self._proxy, self._hand = gateways, proxy, hand
        self._canaries = [] if canary is None else [canary]
        self._alerting_limit_nanousd = alerting_limit_nanousd
        self._other = other
        at = process.endpoints()
        self._findings = Findings(at.kafka_bootstrap, at.clickhouse_dsn, at.upstream_url)

    @property
    def _sources(self) -> list[ProxyTraffic | GatewayTraffic | Canary]:
        return [self._proxy, *self._gateways, *self._canaries]

    async def settle(self) -> Settled:
        """Stop the traffic, wait until everything has arrived, and compare."""
        for one in self._sources:
            one.pause()
        await self._until_answered()
        verdict, differ = await self._until_arrived()
        if verdict.is_clean and not differ:
            await asyncio.sleep(HOLD_SECONDS)
            verdict, differ = await self._look()
        await self._check_enforcement(verdict.expected)
        await self._check_dead_letters()
        await self._check_alerts(verdict.expected["everything|", 0])
        await self._check_losses()
        rows, places = await self._findings.raw_rows()
        if rows != places:
            self._other.append(f"history holds {rows} raw rows of {places} places in Kafka")
        self._other += [f"refused: {answer}" for answer in self._requests.refused]
        stored, distinct = await self._findings.events_stored()
        reconcile = await asyncio.to_thread(self._reconcile)
        return Settled(verdict, differ, self._counts(verdict, stored - distinct), reconcile)

    def resume(self) -> None:
        """Let the traffic flow again."""
        for one in self._sources:
            one.resume()

    async def _until_answered(self) -> None:
        await until(lambda: all(s.is_settled for s in self._sources), SETTLE_WITHIN_SECONDS, "every answer")

    async def _until_arrived(self) -> tuple[Verdict, list[str]]:
        """Look until all is as it must be, or time is up; then what was seen last is what counts."""
        deadline = time.monotonic() + SETTLE_WITHIN_SECONDS
        while True:
            try:
                verdict, differ = await self._look()
                if (verdict.is_clean and not differ) or time.monotonic() > deadline:
                    return verdict, differ
            except (aiohttp.ClientError, KafkaError, OSError):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> tuple[Verdict, list[str]]:
        calls, totals = await self._findings.calls(), await self._findings.totals()
        verdict = judge(self._ledger, self._requests, calls, await self._findings.rows())
        return verdict, compare_totals(verdict.expected, totals)

    async def _check_enforcement(self, expected: Mapping[tuple[str, int], int]) -> None:
        """Each gateway must come to know of exactly what has been spent, its own and the others'."""
        accounts: dict[str, str | None] = {"everything|": None, **{f"per-key|key={key}": key for key in KEYS}}
        for gateway in self._gateways:
            allowed = {
                account: may_know(self._ledger, gateway.name, key, expected.get((account, 0), 0))
                for account, key in accounts.items()
            }
            deadline = time.monotonic() + SETTLE_WITHIN_SECONDS / 4
            while True:
                known = (await gateway.tell("spent", accounts=list(accounts)))["spent"]
                differ = {a: (known[a], right) for a, right in allowed.items() if known[a] not in right}
                if not differ:
                    break
                if time.monotonic() > deadline:
                    self._other.append(f"{gateway.name} knows another spend (known, right): {differ}")
                    break
                await asyncio.sleep(0.5)

    async def _check_dead_letters(self) -> None:
        letters = await self._findings.dead_letters()
        for place in self._hand.poisoned:
            if place not in letters:
                self._other.append(f"no dead letter of the poison at {place}")
        kept = {_event_id(payload) for payload in letters.values()}
        for entry in self._ledger:
            if entry.outcome == "from the future" and entry.id not in kept:
                self._other.append(
                    f"event {entry.id}, more than {MAX_AHEAD_SECONDS} s ahead, is no dead letter"
                )
        unplanned = [
            place
            for place, payload in letters.items()
            if place.topic == "spend.usage"
            and place not in self._hand.poisoned
            and payload not in self._hand.garbage_payloads
            and getattr(self._ledger.entries.get(_event_id(payload)), "outcome", None) != "from the future"
        ]
        if unplanned:
            self._other.append(
                f"{len(unplanned)} dead letters of records that nobody spoiled: {unplanned[:5]}"
            )

    async def _check_alerts(self, spent_nanousd: int) -> None:
        """One alert for each threshold that was reached, told at least once, whoever was killed meanwhile."""
        due = crossed(self._alerting_limit_nanousd, spent_nanousd)
        deadline = time.monotonic() + SETTLE_WITHIN_SECONDS / 4
        while True:
            told, kept = await self._findings.alerts()
            seen = set(seen_alerts(self._process.stack).read_text().split())
            if len(set(told)) == due and set(told) == kept == seen:
                return
            if time.monotonic() > deadline:
                self._other.append(
                    f"alerts: {due} are due, {len(set(told))} were told, history has {len(kept)},"
                    f" a consumer has seen {len(seen)}"
                )
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _check_losses(self) -> None:
        """What gateways said was lost, they must count as lost; a kill takes the count with it."""
        for gateway in self._gateways:
            if self._process.kills.get(gateway.name):
                continue
            said = sum(e.outcome == "told lost" and e.source == gateway.name for e in self._ledger)
            counted = (await gateway.tell("lost"))["lost"]
            if said != counted:
                self._other.append(f"{gateway.name} said {said} events were lost and counted {counted}")

    def _reconcile(self) -> Any:
        """What the product's own reconciler says: equal, but for what gateways said they could not record."""
        command = [str(Path(sys.executable).with_name("spendmeter")), "reconcile", "--json"]
        env = {**os.environ, "SPENDMETER_DIR": str(self._process.stack.path)}
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=RECONCILE_TIMEOUT_SECONDS
        )
        try:
            said = json.loads(done.stdout)
        except ValueError:
            self._other.append(f"reconcile exits {done.returncode}: {done.stderr[-2000:]}")
            return None
        told_lost = self._ledger.counts["told lost"]
        # Of nobody there are events whose predecessors nobody has, and totals that somebody made up.
        ours = [one for one in said["differences"] if not _is_of_nobody(one)]
        differences = [one for one in ours if one["kind"] != "lost_events"]
        named = sum(one["events"] for one in ours if one["kind"] == "lost_events")
        contradicts_itself = said["equal"] is bool(said["differences"])
        if differences or named != told_lost or said["more_differences"] or contradicts_itself:
            self._other.append(f"reconcile names {named} lost events, told were {told_lost}: {done.stdout}")
        return said

    def _counts(self, verdict: Verdict, duplicates: int) -> dict[str, int]:
        return {
            "events in history": verdict.events,
            "recorded by gateways": self._ledger.counts["recorded"],
            "answered by the proxy": self._requests.answered,
            "duplicates in Kafka": duplicates,
            "in doubt at a gateway's kill": self._ledger.counts["in doubt"],
            "in flight at a proxy's kill, recorded": verdict.in_flight_recorded,
            "in flight at a proxy's kill, unrecorded": verdict.in_flight_unrecorded,
            "of those answered before": verdict.answered_unrecorded,
            "longest from such an answer to the kill, ms": verdict.hook_late_ms,
            "told lost (disk, bound)": self._ledger.counts["told lost"],
            "put aside (clock too far ahead)": self._ledger.counts["from the future"],
        }


def _is_of_nobody(difference: Mapping[str, Any]) -> bool:
    return str(difference.get("account") or difference.get("producer_id") or "").startswith(NOBODY)


def _event_id(payload: str) -> str:
    try:
        return str(json.loads(payload)["event_id"])
    except (ValueError, KeyError, TypeError):
        return ""
