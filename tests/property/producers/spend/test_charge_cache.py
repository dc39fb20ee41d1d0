"""Where an event is charged does not hang on what is remembered of the events before it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter_gateway.spend.charge_cache import ChargeCache
from spendmeter_gateway.spend.charges import charges_of
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)
EVENT = UsageEvent(
    event_id=UUID("01935000-0000-7000-8000-000000000001"),
    producer_id="p",
    seq=1,
    occurred_at=BEGIN,
    started_at=BEGIN,
    key="k",
    cost_nanousd=NanoUsd(1),
    cost_source=CostSource.LITELLM,
)
MATCHES: dict[str, dict[str, str]] = {"all": {}, "key": {"key": "*"}, "user": {"user": "u"}}
IDS = st.sampled_from(sorted(MATCHES))
MINUTES = st.integers(-90, 180)


class World(RuleBasedStateMachine):
    """Two users of one key, up to three budgets, and clocks that may run back."""

    @initialize()
    def begin(self) -> None:
        self.book, self.charged, self.spend, self.plain = (
            BudgetBook(),
            ChargeCache(),
            SpendTracker(),
            SpendTracker(),
        )
        self.now = BEGIN
        self.seq = self.revision = 0

    @rule(
        budget_id=IDS,
        period=st.sampled_from(["hour", "day", "lifetime"]),
        unpriced=st.sampled_from(["allow", "0.000000002"]),
        starts=st.none() | MINUTES,
        reset=st.none() | MINUTES,
    )
    def put(self, budget_id: str, starts: int | None, reset: int | None, **fields: Any) -> None:
        self.revision += 1
        given = {"id": budget_id, "match": MATCHES[budget_id], "limit_nanousd": 5, "revision": self.revision}
        times = {
            "starts_at": None if starts is None else self._at(starts),
            "reset_at": None if reset is None else self._at(reset),
        }
        self.book.put(Budget.model_validate({**given, **times, **fields, "updated_at": BEGIN}))

    @rule(budget_id=IDS)
    def remove(self, budget_id: str) -> None:
        self.book.remove(budget_id)

    @rule(minutes=MINUTES)
    def clock(self, minutes: int) -> None:
        self.now = self._at(minutes)

    @rule()
    def prune(self) -> None:
        for spend in (self.spend, self.plain):
            spend.prune(spend.keys(), self.now, lambda budget_id: self.book.get(budget_id) is None)

    @rule(
        user=st.sampled_from(["u", "v"]),
        source=st.sampled_from([CostSource.LITELLM, CostSource.LITELLM, CostSource.UNPRICED]),
        cost=st.integers(0, 3),
        minutes=st.just(0) | MINUTES,
        is_acknowledged=st.booleans(),
    )
    def spends(self, user: str, source: CostSource, cost: int, minutes: int, is_acknowledged: bool) -> None:
        occurred_at = self.now - timedelta(minutes=minutes)
        changes = {"user": user, "cost_source": source, "cost_nanousd": cost, "occurred_at": occurred_at}
        event = EVENT.model_copy(update=changes)
        self.seq += 1
        charges = charges_of(self.book, event, self.now)
        self.plain.record(self.seq, charges, 0.0)
        self.spend.record_in(self.seq, *self.charged.where(event, self.book, self.spend, self.now), 0.0)
        if is_acknowledged:
            stored = Acknowledgement(0, self.seq, 0.0, resent=False)
            self.plain.acknowledge(self.seq, stored)
            self.spend.acknowledge(self.seq, stored)
        assert sorted(self.spend.keys()) == sorted(self.plain.keys())
        for key in self.plain.keys():  # noqa: SIM118
            assert self.spend.known(*key) == self.plain.known(*key)

    def _at(self, minutes: int) -> datetime:
        return BEGIN + timedelta(minutes=minutes)


TestCharged = World.TestCase
