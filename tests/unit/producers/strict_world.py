"""A gateway without Kafka, its strict budgets, and requests that ask it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
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
from tests.patience import WITHIN_SECONDS

NOW = datetime.now(UTC)
CALLER = Caller(Subject(key="k", model_group="group"), "k")


class Request:
    """Costs 10 nano-USD and 1 for each output token."""

    def __init__(self, most: int = 50, enough: int | None = None, counted: int = 10, base: int = 10) -> None:
        self.id: UUID = uuid7(0)
        self.most, self.enough = most, most if enough is None else enough
        self.base, self.counted = base, counted
        self.limited_to: int | None = None

    def bound(self) -> Bound | None:
        return Bound(self.base * FEMTO_PER_NANO, FEMTO_PER_NANO, self.most, self.enough, 1, True)

    def is_unpriced(self) -> bool:
        return False

    async def count(self) -> bool:
        is_tighter, self.base = self.counted < self.base, self.counted
        return is_tighter

    def limit(self, output_tokens: int) -> None:
        self.limited_to = output_tokens


class Unbounded(Request):
    def bound(self) -> Bound | None:
        return None


class Unpriced(Unbounded):
    def is_unpriced(self) -> bool:
        return True


class World:
    """A gateway, its budgets, and tasks that ask it."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.gateway = Gateway(GatewaySettings(data_dir=root, gateway="g1", **settings))
        self.outbox = self.gateway._recorder.outbox = Outbox.open(root, max_bytes=10**8)
        self.gateway.views.budgets.caught_up.set()
        self.gateway.views.signals.caught_up.set()
        self.holds = self.gateway.views.strict.holds

    def sets(self, **changes: Any) -> None:
        given = {
            "id": "b",
            "match": {"key": "*"},
            "limit_nanousd": 100,
            "period": "lifetime",
            "enforcement": "strict",
            "updated_at": NOW,
        }
        budget = Budget.model_validate(given | changes)
        with self.gateway.views.lock:
            self.gateway.views.budgets.book.put(budget)
            self.gateway.views.budget_changed(budget.id, budget)
        self.gateway.views.strict.wake_all()

    async def asks(self, request: Request) -> Refusal | None:
        return await self.gateway.admit(CALLER, asking=request)

    async def waits(self, request: Request) -> "asyncio.Task[Refusal | None]":
        """Ask, and be seen to wait."""
        task = asyncio.create_task(self.asks(request))
        before = len(self.gateway.views.strict._waiting)
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(self.gateway.views.strict._waiting) == before:
                assert not task.done(), task.result()
                await asyncio.sleep(0)
        return task

    def spends(self, cost: int, ends: Request | None = None, **fields: Any) -> None:
        given = {
            "event_id": uuid7(0),
            "occurred_at": datetime.now(UTC),
            "started_at": NOW,
            "key": "k",
            "cost_nanousd": cost,
            "cost_source": CostSource.LITELLM,
        }
        self.gateway.record(UsageDraft(given | fields), ends=ends.id if ends else None)

    def hears(self, spent: int, version: int, watermark: dict[int, int]) -> None:
        budget = self.gateway.views.budgets.book.get("b")
        assert budget is not None
        window = window_of(budget, NOW)
        assert window is not None
        self.gateway.views._apply_signal(
            "b|key=k",
            Signal(
                budget_id="b",
                account="b|key=k",
                subject={"key": "k"},
                window_start=window.start,
                window_end=window.end,
                limit_nanousd=NanoUsd(100),
                spent_nanousd=NanoUsd(spent),
                state=State.OK,
                watermark=watermark,
                revision=1,
                version=version,
                emitted_at=NOW,
            ),
        )

    def held(self) -> int:
        return sum(self.holds._sums.values())
