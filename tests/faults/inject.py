"""How each fault is done. Every one returns once its condition has ended, so that recovery can begin."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Mapping, Sequence

import aiohttp

from tests.faults.access import Files, new_password, set_password
from tests.faults.cluster import Cluster
from tests.faults.hand import Hand
from tests.faults.ledger import Requests
from tests.faults.process import StackProcess
from tests.faults.schedule import MUTED, Fault
from tests.faults.stack import BOUNDED_OUTBOX_BYTES, link_names
from tests.faults.tcp_proxy import Mode
from tests.faults.traffic import GatewayTraffic
from tests.faults.waiting import until

# About how long each takes from its start to its first work: the next kill falls somewhere in between.
START_SECONDS = {"proxy": 12.0, "kafka": 5.0, "clickhouse": 3.0}
DEFAULT_START_SECONDS = 5.0
CLOCK_JUMPS_SECONDS = {"back": -26 * 3600, "ahead": 30 * 60, "far ahead": 3 * 3600}
DELAY_MS = 80
CRUMB_PAUSE_MS = 1
SMALLEST_EVENT_BYTES = 400
CLICKHOUSE_WITHIN_SECONDS = 60
IN_SYNC_WITHIN_SECONDS = 120
LOOK_SECONDS = 0.5
NODES_DOWN = {"one kafka": 1, "two kafka": 2, "every kafka": 3}
TOO_FEW_COPIES_OF = ("spend.usage", "spend.totals")
OF_ONE = " of one"
JOIN_WITHIN_SECONDS = 120
OUTBOX_METRIC = "spendmeter_outbox_bytes"
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
        cluster: Cluster,
        spare_traffic: GatewayTraffic,
        workers: int,
        seed: int,
    ) -> None:
        self._process, self._gateways, self._hand, self._requests = process, gateways, hand, requests
        self._cluster, self._spare_traffic = cluster, spare_traffic
        self._streams = ["stream"] if workers == 1 else [f"stream-{n}" for n in range(1, workers + 1)]
        self._chance = random.Random(seed)

    async def inject(self, fault: Fault) -> None:
        """Do one fault. Raises what shows that it could not be done."""
        verb, target = fault.kind
        match verb:
            case "kill":
                await self._kill(await self._led(target) or self._one(target))
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
            case "freeze" if target == "two kafka":
                await asyncio.gather(*(self._freeze(node, fault.seconds) for node in self._some(2)))
            case "freeze":
                await self._freeze(self._one(target), fault.seconds)
            case "restart" if target == "every kafka in turn":
                await self._restart_in_turn()
            case "restart":
                component = self._one(target)
                self._process.send(await self._process.pid_other_than(component, None), signal.SIGTERM)
            case "down":
                await self._down(self._some(NODES_DOWN[target]), fault.seconds)
            case "copies":
                await self._want_every_copy(fault.seconds)
            case "full disk":
                with self._process.full_disk():
                    await asyncio.sleep(fault.seconds)
            case "rotate password":
                await self._rotate(target, fault.seconds)
            case "join and leave":
                await self._join_and_leave(target, fault.seconds)
            case "garbage":
                await self._hand.garbage()
            case "leaders" if target == "elected":
                await self._cluster.elect_preferred()
            case "leaders":
                await self._cluster.deal_leaders()
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
        if target == "kafka":
            return self._chance.choice(self._process.nodes)
        return target

    def _some(self, count: int) -> list[str]:
        """So many nodes of Kafka."""
        return self._chance.sample(self._process.nodes, count)

    async def _led(self, target: str) -> str | None:
        """The node that leads what is meant; None if that is no leader."""
        match target:
            case "leader":
                return self._process.nodes[await self._cluster.leader_of("spend.usage") - 1]
            case "controller":
                return self._process.nodes[await self._cluster.controller() - 1]
            case _:
                return None

    async def _down(self, nodes: Sequence[str], seconds: float) -> None:
        """Killed, and kept from starting again."""
        with self._process.held_down(*nodes):
            for node in nodes:
                await self._kill(node)
            await asyncio.sleep(seconds)

    async def _want_every_copy(self, seconds: float) -> None:
        """One node down, and records that need all three: the others refuse them, as they are below that."""
        (node,) = self._some(1)
        with self._process.held_down(node):
            await self._kill(node)
            await self._cluster.set_min_insync(TOO_FEW_COPIES_OF, len(self._process.nodes))
            try:
                await asyncio.sleep(seconds)
            finally:
                await self._cluster.set_min_insync(TOO_FEW_COPIES_OF, None)

    async def _rotate(self, client: str, seconds: float) -> None:
        """Kafka has the new password first; for a while every connection that is made shows the old one."""
        files, password = Files(self._process.stack), new_password()
        await set_password(self._cluster, client, password)
        await self._process.set_link(f"{client}-kafka", "refuse")
        await self._process.set_link(f"{client}-kafka", "open")
        await asyncio.sleep(seconds)
        files.write_password(client, password)

    async def _join_and_leave(self, target: str, seconds: float) -> None:
        """One more of them, for a while; a gateway leaves once all that it recorded is sent."""
        process = self._process.start_spare(target)
        await until(lambda: process.is_ready, JOIN_WITHIN_SECONDS, f"{process.name} ready")
        if target == "gateway":
            await self._spare_traffic.flow(seconds)
            await until(lambda: process.metric(OUTBOX_METRIC) == 0, JOIN_WITHIN_SECONDS, "outbox sent")
        else:
            await asyncio.sleep(seconds)
        code = await asyncio.to_thread(process.leave)
        assert code == 0, f"{process.name} left with {code}"

    async def _restart_in_turn(self) -> None:
        """As an operator does it: the next one only once every partition has all of its copies."""
        for node in self._process.nodes:
            pid = await self._process.pid_other_than(node, None)
            self._process.send(pid, signal.SIGTERM)
            await self._process.pid_other_than(node, pid)
            await self._until_in_sync(node)

    async def _until_in_sync(self, node: str) -> None:
        async with asyncio.timeout(IN_SYNC_WITHIN_SECONDS):
            while True:
                if self._process.is_ready(node) and await self._cluster.in_sync():
                    return
                await asyncio.sleep(LOOK_SECONDS)

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
        if link.endswith(OF_ONE):
            link = self._chance.choice(link_names(link.removesuffix(OF_ONE), len(self._process.nodes)))
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
