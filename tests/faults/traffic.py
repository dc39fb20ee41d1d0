"""Traffic that flows throughout: clients of the LiteLLM proxy, and orders to the gateways without it."""

import asyncio
import contextlib
import json
import random
import time
from itertools import count
from typing import Any

import aiohttp

from spendmeter.values.ids import uuid7
from spendmeter_local.ports import LOOPBACK
from tests.faults.ledger import Entry, Ledger, Request, Requests

KEYS = [f"k{number}" for number in range(20)]
# Two thirds are one key's: so is a backlog then, and all of it one partition's.
WEIGHTS = [2 * (len(KEYS) - 1)] + [1] * (len(KEYS) - 1)
# LiteLLM passes `user`, by which a request is known again, on for models that it knows.
MODELS = ("gpt-4o-mini", "gpt-4o")
MAX_COST_NANOUSD = 50_000_000
MAX_UNANSWERED = 64
RETRY_SECONDS = 0.1
# Longer than anything a fault does to the proxy: a client that gives up would be another kind of event.
CLIENT_TIMEOUT_SECONDS = 300.0
ANSWER_TIMEOUT_SECONDS = 60.0


def new_id(at: float) -> str:
    return str(uuid7(int(at * 1000)))


class GatewayTraffic:
    """Tells one gateway what to record, at a steady rate, and books what it answers."""

    def __init__(self, name: str, port: int, ledger: Ledger, rate: float, seed: int) -> None:
        self.name = name
        self.rate = rate
        """Events a second."""
        self._port, self._ledger = port, ledger
        self._chance = random.Random(seed)
        self._numbers = count(1)
        self._unanswered: dict[int, str] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connected, self._room = asyncio.Event(), asyncio.Event()
        self._is_paused = False

    async def run(self) -> None:
        """Connect, and connect again after each kill, until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._writer = writer
            self._connected.set()
            asking = asyncio.create_task(self._ask_on())
            try:
                with contextlib.suppress(OSError):
                    while line := await reader.readline():
                        self._take(json.loads(line))
            finally:
                asking.cancel()
                self._disconnected()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def pause(self) -> None:
        """Ask for no more events until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    @property
    def is_settled(self) -> bool:
        return not self._unanswered

    async def tell(self, do: str, **more: Any) -> dict[str, Any]:
        """Any other command, once it is connected. Raises TimeoutError, ConnectionError."""
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            await self._connected.wait()
            number = next(self._numbers)
            future = self._answers[number] = asyncio.get_running_loop().create_future()
            self._write({"n": number, "do": do, **more})
            answer: dict[str, Any] = await future
            return answer

    async def burst(self, events: int) -> int:
        """Record so many as fast as it goes; returns how many the gateway said were lost."""
        before = self._ledger.counts["told lost"]
        for _ in range(events):
            while len(self._unanswered) >= MAX_UNANSWERED:
                await self._wait_for_room()
            if self._writer is None:
                break
            self._ask()
        while self._unanswered:
            await self._wait_for_room()
        return self._ledger.counts["told lost"] - before

    async def flow(self, seconds: float) -> None:
        """Record at the steady rate for so long, to the last answer, and be paused again."""
        await self._connected.wait()
        self._is_paused = False
        await asyncio.sleep(seconds)
        self._is_paused = True
        while self._unanswered:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()

    async def _ask_on(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self._is_paused and len(self._unanswered) < MAX_UNANSWERED:
                self._ask()
            # After a stall no burst makes up for it: the rate is that of a caller who waits.
            due = max(due + 1 / self.rate, loop.time())
            await asyncio.sleep(due - loop.time())

    def _ask(self) -> None:
        number, now = next(self._numbers), time.time()
        entry = Entry(
            new_id(now),
            self.name,
            self._chance.choices(KEYS, WEIGHTS)[0],
            self._chance.randrange(MAX_COST_NANOUSD),
            now,
        )
        self._ledger.ask(entry)
        self._unanswered[number] = entry.id
        model = self._chance.choice(MODELS)
        self._write(
            {
                "n": number,
                "do": "record",
                "id": entry.id,
                "key": entry.key,
                "model": model,
                "cost_nanousd": entry.cost_nanousd,
            }
        )

    def _write(self, command: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(command).encode() + b"\n")

    def _take(self, answer: dict[str, Any]) -> None:
        number = answer.pop("n")
        if number in self._unanswered:
            event_id = self._unanswered.pop(number)
            self._ledger.settle(event_id, answer["occurred_us"], lost=answer["lost"])
            self._room.set()
        else:
            self._answers.pop(number).set_result(answer)

    def _disconnected(self) -> None:
        self._writer = None
        self._connected.clear()
        for event_id in self._unanswered.values():
            self._ledger.doubt(event_id)
        self._unanswered.clear()
        for answer in self._answers.values():
            answer.set_exception(ConnectionError(f"{self.name} is gone"))
        self._answers.clear()
        self._room.set()


class ProxyTraffic:
    """Clients of the LiteLLM proxy: each asks, waits for its answer, rests a little, and asks again."""

    def __init__(self, url: str, keys: list[str], requests: Requests, clients: int, seed: int) -> None:
        self._url, self._keys, self._requests = url, keys, requests
        self._clients = clients
        self._chance = random.Random(seed)
        self._numbers = count(1)
        self._in_flight = 0
        self._is_paused = False

    async def run(self) -> None:
        """Ask until cancelled."""
        timeout = aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as clients:
            for _ in range(self._clients):
                clients.create_task(self._client(http))

    def pause(self) -> None:
        """Ask no more until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False

    @property
    def is_settled(self) -> bool:
        return self._in_flight == 0

    async def _client(self, http: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.05, 0.3))
            if self._is_paused:
                continue
            request = Request(f"r{next(self._numbers)}", time.time())
            self._requests.by_id[request.id] = request
            self._in_flight += 1
            try:
                await self._ask(http, request)
            except (aiohttp.ClientError, OSError):
                # The proxy was killed under it, or is not back yet.
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._in_flight -= 1
                request.ended_at = time.time()

    async def _ask(self, http: aiohttp.ClientSession, request: Request) -> None:
        chance = self._chance
        directive = f"[[in={chance.randrange(1, 2000)} out={chance.randrange(1, 300)}"
        directive += f" delay_ms={chance.choice((0, 0, 20, 200))} chunk_delay_ms={chance.choice((0, 5))}]]"
        body: dict[str, Any] = {
            "model": chance.choice(MODELS),
            "user": request.id,
            "messages": [{"role": "user", "content": directive}],
        }
        if chance.random() < 0.3:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        headers = {"Authorization": f"Bearer {chance.choice(self._keys)}"}
        async with http.post(f"{self._url}/v1/chat/completions", json=body, headers=headers) as answer:
            content = await answer.read()
            if answer.status != 200:
                self._requests.refused.append(f"{request.id}: {answer.status} {content[:300]!r}")
            elif not body.get("stream") or content.rstrip().endswith(b"[DONE]"):
                request.answered = True
                self._requests.answered += 1
