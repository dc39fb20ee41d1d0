"""Many clients race at the limit of a strict budget, in one gateway, on a real event loop: 1,000 times."""

import asyncio
import logging
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from spendmeter.contract.budget import Budget, Enforcement
from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource
from spendmeter.domain.matching import Subject
from spendmeter.domain.window import window_of
from spendmeter.values.ids import uuid7
from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import Caller, UsageDraft
from spendmeter_gateway.outbox.writer import Outbox
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO
from spendmeter_gateway.settings import GatewaySettings

CLIENTS = 64
RACES = 1_000
LIMIT = 1_000
NOW = datetime.now(UTC)
BUDGET = Budget(
    id="b",
    match={"key": "*"},
    limit_nanousd=NanoUsd(LIMIT),
    period="lifetime",
    enforcement=Enforcement.STRICT,
    updated_at=NOW,
)


class Request:
    """Costs so much at the most, and in the end any part of that."""

    def __init__(self, chance: random.Random) -> None:
        self.id: UUID = uuid7(0)
        most = chance.randrange(1, 60)
        base, token = chance.randrange(1, 20), chance.randrange(0, 3)
        self._bound = Bound(
            base * FEMTO_PER_NANO, token * FEMTO_PER_NANO, most, chance.randrange(1, most + 1), 1, True
        )
        self.tokens = chance.randrange(1, most + 1)
        self.yields = chance.randrange(1, 4)

    def is_unpriced(self) -> bool:
        return False

    def bound(self) -> Bound:
        return self._bound

    async def count(self) -> bool:
        return False

    def limit(self, output_tokens: int) -> None:
        self.tokens = min(self.tokens, output_tokens)

    @property
    def least(self) -> int:
        return self._bound.nanousd(self._bound.least_tokens)

    def draft(self, key: str) -> UsageDraft:
        return UsageDraft(
            {
                "event_id": self.id,
                "occurred_at": NOW,
                "started_at": NOW,
                "key": key,
                "cost_nanousd": NanoUsd(self._bound.nanousd(self.tokens)),
                "cost_source": CostSource.LITELLM,
            }
        )


class Race:
    """The clients of one key: each asks again and again until it is refused."""

    def __init__(self, gateway: Gateway, key: str, chance: random.Random) -> None:
        self._gateway, self._key, self._chance = gateway, key, chance
        self._caller = Caller(Subject(key=key), key)
        self.served = 0
        self.refused = 0

    def spent(self) -> int:
        window = window_of(BUDGET, NOW)
        assert window is not None
        with self._gateway.views.lock:
            known = self._gateway.views.spend.known(f"b|key={self._key}", window.start)
        assert known.doubtful_nanousd == 0
        return known.certain_nanousd

    async def client(self) -> None:
        request = Request(self._chance)
        refusal = await self._gateway.admit(self._caller, asking=request)
        if refusal is not None:
            self._is_right(refusal, request)
            self.refused += 1
            return
        self.served += 1
        for _ in range(request.yields):
            await asyncio.sleep(0)
        if self._chance.random() < 0.1:
            self._gateway.release(request.id)
        else:
            self._gateway.record(request.draft(self._key), ends=request.id)

    def _is_right(self, refusal: Refusal, request: Request) -> None:
        """A refusal tells what it rests on, and there was no room for the request."""
        spent = self.spent()
        assert refusal.refuse.why in (Why.LIMIT_REACHED, Why.NO_ROOM)
        assert refusal.refuse.spent_nanousd == spent
        assert spent + request.least > LIMIT
        if refusal.refuse.why is Why.LIMIT_REACHED:
            assert spent >= LIMIT


@pytest.fixture
def gateway(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Gateway]:
    # Each refusal is logged, which is most of the time that this takes.
    caplog.set_level(logging.ERROR)
    gateway = Gateway(GatewaySettings(data_dir=tmp_path, gateway="g1", strict_wait_ms=60_000))
    outbox = gateway._recorder.outbox = Outbox.open(tmp_path, max_bytes=10**9)
    gateway.views.budgets.book.put(BUDGET)
    gateway.views.budgets.caught_up.set()
    gateway.views.signals.caught_up.set()
    yield gateway
    outbox.close()
    # It was never started.
    gateway._loop.close()


async def test_a_race_at_the_limit_overspends_nothing_and_refuses_nobody_who_fits(gateway: Gateway) -> None:
    chance = random.Random(20261122)
    served = refused = 0
    for race in range(RACES):
        clients = Race(gateway, f"k{race}", chance)
        await asyncio.gather(*(clients.client() for _ in range(CLIENTS)))
        assert clients.spent() <= LIMIT
        assert len(gateway.views.strict.holds) == 0
        served, refused = served + clients.served, refused + clients.refused

    assert refused > RACES
    assert served > RACES
    assert gateway.views.strict.holds.lines() == []
