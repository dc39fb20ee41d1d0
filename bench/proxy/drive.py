"""Clients that keep a proxy busy for a while, and what each answer took."""

import asyncio
import time
from typing import NamedTuple

import aiohttp

from bench.admission.workload import MODEL
from bench.processes import cpu_seconds
from bench.proxy.contenders import Contender

REQUEST_WITHIN_SECONDS = 60
PROMPT = "word " * 100


class Turn(NamedTuple):
    """One contender under one load, once."""

    contender: str
    clients: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of the proxy, per request."""
    failed: int


async def turn(http: aiohttp.ClientSession, contender: Contender, clients: int, seconds: float) -> Turn:
    """Ask one after another with so many clients at once, for so long."""
    took: list[float] = []
    failed = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal failed
        while (begun := time.perf_counter()) < end:
            if await _ask(http, contender):
                took.append(time.perf_counter() - begun)
            else:
                failed += 1

    cpu, begun = cpu_seconds(contender.session), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    wall, cpu = time.perf_counter() - begun, cpu_seconds(contender.session) - cpu
    took.sort()
    asked = len(took) + failed
    return Turn(
        contender.name,
        clients,
        len(took) / wall,
        took[len(took) // 2] * 1000 if took else float("nan"),
        took[len(took) * 99 // 100] * 1000 if took else float("nan"),
        cpu / asked * 1000 if asked else float("nan"),
        failed,
    )


async def _ask(http: aiohttp.ClientSession, contender: Contender) -> bool:
    body = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"Authorization": f"Bearer {contender.key}"}
    timeout = aiohttp.ClientTimeout(total=REQUEST_WITHIN_SECONDS)
    url = f"{contender.url}/v1/chat/completions"
    async with http.post(url, json=body, headers=headers, timeout=timeout) as answer:
        await answer.read()
        return answer.status == 200
