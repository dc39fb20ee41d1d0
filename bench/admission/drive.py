"""Clients that spend one key's budget until it is spent, and what they were answered."""

import asyncio
import time
from typing import Any

import aiohttp

from bench.admission.contenders import Contender
from bench.admission.verdict import KeyResult, Refusal
from bench.admission.workload import NANOUSD_IN, NANOUSD_OUT, Ask, asks

REQUEST_WITHIN_SECONDS = 120


class UpstreamCount:
    """What the upstream has completed since a moment, asked of the upstream itself."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url, self._http = url, http
        self._last = 0
        self.spent_nanousd = 0

    async def begin(self) -> None:
        """Count from now on."""
        self._last = int((await self._calls(10**12))["last"])
        self.spent_nanousd = 0

    async def now(self) -> int:
        """Nano-USD of every call completed by now."""
        answer = await self._calls(self._last)
        # Two may have asked at once: a call counts once, by its number.
        for call in answer["calls"]:
            if call["number"] > self._last:
                self._last = call["number"]
                if call["outcome"] != "failed":
                    tokens = call["input_tokens"] * NANOUSD_IN + call["output_tokens"] * NANOUSD_OUT
                    self.spent_nanousd += tokens
        return self.spent_nanousd

    async def _calls(self, since: int) -> dict[str, Any]:
        async with self._http.get(f"{self._url}/served/calls", params={"since": since}) as answer:
            return dict(await answer.json())


class KeyRun:
    """One key, one contender, several clients. Ends after so many refusals in a row, or at the deadline."""

    def __init__(
        self, http: aiohttp.ClientSession, contender: Contender, count: UpstreamCount, limit_nanousd: int
    ) -> None:
        self._http, self._contender, self._count = http, contender, count
        self.result = KeyResult(limit_nanousd)
        self._running: dict[int, Ask] = {}
        self._in_a_row = 0
        self._number = 0

    async def run(
        self,
        *,
        seed: int,
        key: int,
        clients: int,
        max_tokens: bool,
        delay_ms: int,
        in_a_row: int,
        seconds: float,
    ) -> KeyResult:
        """Make a key and spend it."""
        token = await asyncio.to_thread(self._contender.new_key, self.result.limit_nanousd / 1e9)
        headers = {"Authorization": f"Bearer {token}"}
        await self._count.begin()
        begun = time.monotonic()

        async def client(number: int) -> None:
            for ask in asks(seed, key, number):
                if self._in_a_row >= in_a_row * clients or time.monotonic() - begun > seconds:
                    return
                await self._one(ask, headers, max_tokens, delay_ms)

        await asyncio.gather(*(client(number) for number in range(clients)))
        self.result.spent_nanousd = await self._count.now()
        self.result.seconds = time.monotonic() - begun
        return self.result

    async def _one(self, ask: Ask, headers: dict[str, str], max_tokens: bool, delay_ms: int) -> None:
        self._number += 1
        number = self._number
        self._running[number] = ask
        url, body = f"{self._contender.url}/v1/chat/completions", ask.body(number, max_tokens, delay_ms)
        timeout = aiohttp.ClientTimeout(total=REQUEST_WITHIN_SECONDS)
        async with self._http.post(url, json=body, headers=headers, timeout=timeout) as answer:
            status, told = answer.status, await answer.json(content_type=None)
        del self._running[number]
        if status == 200:
            self._in_a_row = 0
            self.result.served += 1
            self.result.shortened += told["usage"]["completion_tokens"] < ask.output_tokens
        elif told.get("error", {}).get("type") == "budget_exceeded":
            self._in_a_row += 1
            await self._refused(ask)
        else:
            # Enough of these in a row also end the run: this contender is out of order.
            self._in_a_row += 1
            self.result.failed += 1

    async def _refused(self, ask: Ask) -> None:
        running = sum(one.cost_nanousd for one in self._running.values())
        spent = await self._count.now()
        self.result.refusals.append(Refusal(spent, running, ask.cost_nanousd, ask.least_nanousd))
