"""How each fault is done. Every one returns once its condition has ended, so that recovery can begin."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Mapping, Sequence

import aiohttp

from tests.faults.hand import Hand
from tests.faults.ledger import Requests
from tests.faults.process import StackProcess
from tests.faults.schedule import MUTED, Fault
from tests.faults.stack import BOUNDED_OUTBOX_BYTES
from tests.faults.tcp_proxy import Mode
from tests.faults.traffic import GatewayTraffic

# About how long each takes from its start to its first work: the next kill falls somewhere in between.
START_SECONDS = {"proxy": 12.0, "kafka": 5.0, "clickhouse": 3.0}
DEFAULT_START_SECONDS = 5.0
CLOCK_JUMPS_SECONDS = {"back": -26 * 3600, "ahead": 30 * 60, "far ahead": 3 * 3600}
DELAY_MS = 80
CRUMB_PAUSE_MS = 1
SMALLEST_EVENT_BYTES = 400
CLICKHOUSE_WITHIN_SECONDS = 60
MODES: Mapping[str, Mode] = {
    "refuse": "refuse",
    "away": "refuse",
    "stall": "stall",
    "mute": "mute",
    "delay": "delay",
    "trickle": "trickle",
    "tear": "tear",
}


class Injector:
    """Does what the schedule says to one stack."""

    def __init__(
        self,
        process: StackProcess,
        gateways: Sequence[GatewayTraffic],
        hand: Hand,
        requests: Requests,
        workers: int,
        seed: int,
    ) -> None:
        self._process, self._gateways, self._hand, self._requests = process, gateways, hand, requests
        self._streams = ["stream"] if workers == 1 else [f"stream-{n}" for n in range(1, workers + 1)]
        self._chance = random.Random(seed)

    async def inject(self, fault: Fault) -> None:
        """Do one fault. Raises what shows that it could not be done."""
        verb, target = fault.kind
        match verb:
            case "kill":
                await self._kill(self._one(target))
            case "kill twice":
                component = self._one(target)
                await self._kill(component, await self._kill(component))
            case "kill recovering":
                await self._kill_recovering(self._one(target), fault.fraction)
            case "kill both":
                first, second = target.split("+")
                await self._kill(self._one(first))
                await asyncio.sleep(fault.seconds)
                await self._kill(self._one(second))
            case "kill muted":
                await self._kill_muted(target, fault.seconds)
            case "freeze":
                await self._freeze(self._one(target), fault.seconds)
            case "restart":
                self._process.send(await self._process.pid_other_than(target, None), signal.SIGTERM)
            case "resend":
                await self._hand.resend()
            case "interleave":
                await self._hand.interleave()
            case "poison":
                await self._hand.poison(target)
            case "clock":
                await self._jump(target, fault.seconds)
            case "disk":
                await (self._fill() if target == "bound" else self._refuse_writes(fault))
            case "clickhouse":
                await self._refuse_inserts(target, fault.seconds)
            case _:
                await self._disturb(target, MODES[verb], fault.seconds)

    def _one(self, target: str) -> str:
        """A component of that sort."""
        if target == "stream":
            return self._chance.choice(self._streams)
        if target == "gateway":
            return self._chance.choice(self._gateways).name
        return target

    async def _kill(self, component: str, former: int | None = None) -> int:
        pid = await self._process.pid_other_than(component, former)
        before = time.time()
        self._process.kill(component, pid)
        if component == "proxy":
            self._requests.kills.append((before, time.time()))
        return pid

    async def _kill_recovering(self, component: str, fraction: float) -> None:
        killed = await self._kill(component)
        await self._process.pid_other_than(component, killed)
        await asyncio.sleep(fraction * START_SECONDS.get(component, DEFAULT_START_SECONDS))
        await self._kill(component, killed)

    async def _kill_muted(self, target: str, seconds: float) -> None:
        link, component = MUTED[target], self._one(target)
        await self._process.set_link(link, "mute")
        try:
            await asyncio.sleep(seconds)
            await self._kill(component)
        finally:
            await self._process.set_link(link, "open")

    async def _freeze(self, component: str, seconds: float) -> None:
        pid = await self._process.pid_other_than(component, None)
        self._process.send(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send(pid, signal.SIGCONT)

    async def _disturb(self, link: str, mode: Mode, seconds: float) -> None:
        milliseconds = {"delay": DELAY_MS, "trickle": CRUMB_PAUSE_MS}.get(mode, 0)
        await self._process.set_link(link, mode, milliseconds)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._process.set_link(link, "open")

    async def _jump(self, jump: str, seconds: float) -> None:
        gateway = self._chance.choice(self._gateways)
        # A gateway that is killed meanwhile comes back with the right time.
        with contextlib.suppress(ConnectionError):
            await gateway.tell("clock", seconds=CLOCK_JUMPS_SECONDS[jump])
            await asyncio.sleep(seconds)
            await gateway.tell("clock", seconds=0)

    async def _refuse_writes(self, fault: Fault) -> None:
        """No file of one gateway may grow beyond some kilobytes: what comes next is torn, then refused."""
        gateway = self._gateways[0]
        with contextlib.suppress(ConnectionError):
            await gateway.tell("disk", bytes=int(fault.fraction * 20_000))
            await asyncio.sleep(fault.seconds)
            await gateway.tell("disk", bytes=None)

    async def _fill(self) -> None:
        """More than the outbox may hold, while Kafka takes nothing. The gateway must say what is lost."""
        gateway = self._gateways[-1]
        await self._process.set_link("gateway-kafka", "refuse")
        try:
            for _ in range(10):
                if await gateway.burst(BOUNDED_OUTBOX_BYTES // SMALLEST_EVENT_BYTES // 10):
                    return
        finally:
            await self._process.set_link("gateway-kafka", "open")
        raise AssertionError("the outbox was filled beyond its bound and nothing was said to be lost")

    async def _refuse_inserts(self, refusal: str, seconds: float) -> None:
        setting = "ALTER TABLE spend.usage {} SETTING parts_to_throw_insert"
        begin, end = {
            "too many parts": (setting.format("MODIFY") + " = 1", setting.format("RESET")),
            "no table": ("DETACH TABLE spend.usage", "ATTACH TABLE IF NOT EXISTS spend.usage"),
        }[refusal]
        await self._command(begin)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._command(end)

    async def _command(self, sql: str) -> None:
        url = self._process.endpoints().clickhouse_dsn
        timeout = aiohttp.ClientTimeout(total=CLICKHOUSE_WITHIN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.post(url, data=sql) as answer:
            assert answer.status == 200, f"{sql}: {await answer.text()}"
