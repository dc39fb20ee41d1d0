"""Gateways of the product, without LiteLLM, and calls that arrive at them at a steady rate."""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from bench.gateways.overspend import Call, Round
from spendmeter.contract.signal import Signal
from spendmeter.contract.usage import CostSource
from spendmeter.domain.matching import Subject
from spendmeter.values.ids import uuid7
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller, UsageDraft
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO
from spendmeter_gateway.spend.window_balance import Acknowledgement
from spendmeter_local.probes import wait_until

INPUT, TOKEN, MOST_TOKENS = 600_000, 15_000, 100
"""Nano-USD of every prompt and of one output token; output tokens at the most."""
MOST = INPUT + TOKEN * MOST_TOKENS
AFTER_SECONDS = 1.0
"""How long calls go on arriving after every gateway has refused one."""
HEARD_WITHIN_SECONDS = 30.0


class Request:
    """A call that may say up to MOST_TOKENS and will say `tokens`, unless it is told to say less."""

    def __init__(self, tokens: int) -> None:
        self.id: UUID = uuid7(time.time_ns() // 1_000_000)
        self._tokens = tokens

    def is_unpriced(self) -> bool:
        return False

    def bound(self) -> Bound:
        base, token = INPUT * FEMTO_PER_NANO, TOKEN * FEMTO_PER_NANO
        return Bound(base, token, MOST_TOKENS, MOST_TOKENS, 1, True)

    async def count(self) -> bool:
        return False

    def limit(self, output_tokens: int) -> None:
        self._tokens = min(self._tokens, output_tokens)

    @property
    def cost_nanousd(self) -> int:
        return INPUT + TOKEN * self._tokens


class Probe:
    """Notes when a gateway learns where its events are, and what signals tell it. All on one clock."""

    def __init__(self, number: int, gateway: Gateway) -> None:
        self.number, self.gateway = number, gateway
        self.round: Round | None = None
        spend = gateway.views.spend
        self._acknowledge, self._take = spend.acknowledge, spend.apply
        vars(spend).update(acknowledge=self._on_acknowledged, apply=self._on_signal)

    def _on_acknowledged(self, seq: int, at: Acknowledgement) -> None:
        self._acknowledge(seq, at)
        if self.round is not None:
            self.round.offsets[self.number, seq] = at.offset
            self.round.acknowledged_at[self.number, seq] = time.perf_counter()

    def _on_signal(self, signal: Signal, now: datetime) -> None:
        self._take(signal, now)
        played = self.round
        if played is not None and signal.watermark and signal.subject.get("key") == played.key:
            played.told[self.number].append((time.perf_counter(), max(signal.watermark.values())))


class Play:
    """One round: calls of one account that arrive at every gateway until each has refused for a while."""

    def __init__(
        self, probes: Sequence[Probe], mode: str, key: str, limit_nanousd: int, rate: float, seed: int
    ) -> None:
        self._probes, self._mode, self._key = probes, mode, key
        self._played = Round(key, limit_nanousd, len(probes))
        self._caller = Caller(Subject(key=key, team=mode), key)
        self._every_seconds = len(probes) / rate
        self._at_most_seconds = 3 * limit_nanousd / INPUT / rate
        self._dice = random.Random(seed)
        self._running: list[asyncio.Task[None]] = []
        self._refused_by: set[int] = set()
        self._over_at = math.inf

    async def run(self) -> Round:
        """Play it, and wait until every gateway has heard of every event."""
        for probe in self._probes:
            probe.round = self._played
        await asyncio.gather(*(self._arrive(probe) for probe in self._probes))
        await asyncio.gather(*self._running)
        # What was not heard by then counts as never heard: the formula then bounds nothing.
        await asyncio.to_thread(
            wait_until,
            lambda: _all_heard(self._played),
            timeout_seconds=HEARD_WITHIN_SECONDS,
            every_seconds=0.01,
        )
        for probe in self._probes:
            probe.round = None
        return self._played

    async def _arrive(self, probe: Probe) -> None:
        due = time.perf_counter() + self._every_seconds * probe.number / len(self._probes)
        until = due + self._at_most_seconds
        while time.perf_counter() < min(self._over_at, until):
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due += self._every_seconds
            tokens, seconds = self._dice.randint(10, MOST_TOKENS), self._dice.uniform(0.05, 0.15)
            self._running.append(asyncio.create_task(self._call(probe, Request(tokens), seconds)))

    async def _call(self, probe: Probe, request: Request, seconds: float) -> None:
        if await probe.gateway.admit(self._caller, asking=request) is not None:
            self._refused(probe)
            return
        made = Call(probe.number, time.perf_counter())
        self._played.calls.append(made)
        await asyncio.sleep(seconds)
        made.cost_nanousd = request.cost_nanousd
        with probe.gateway.views.lock:
            # Under the lock, so that no acknowledgement can come before the note of it.
            made.recorded_at = time.perf_counter()
            event = probe.gateway.record(_draft(request, self._key, self._mode), ends=request.id)
        assert event is not None, "every id is new"
        made.seq = event.seq

    def _refused(self, probe: Probe) -> None:
        self._played.refused_at.append(time.perf_counter())
        if probe.number not in self._refused_by:
            self._refused_by.add(probe.number)
            if len(self._refused_by) == len(self._probes):
                self._over_at = time.perf_counter() + AFTER_SECONDS


def _all_heard(played: Round) -> bool:
    stored = [played.offsets.get((call.gateway, call.seq), math.inf) for call in played.recorded]
    return all(
        played.told[gateway] and max(last for _, last in played.told[gateway]) >= max(stored, default=0)
        for gateway in range(played.gateways)
    )


def _draft(request: Request, key: str, team: str) -> UsageDraft:
    now = datetime.now(UTC)
    return UsageDraft(
        {
            "event_id": request.id,
            "occurred_at": now,
            "started_at": now,
            "key": key,
            "team": team,
            "model": "priced",
            "model_group": "priced",
            "cost_nanousd": request.cost_nanousd,
            "cost_source": CostSource.LITELLM,
        }
    )
