"""A remembered look admits only whom the whole decision would admit, whatever has happened since."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spendmeter.contract.budget import Action, Budget, Enforcement, Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter_gateway.admission.decide import ADMIT, Decision, DecisionContext, decide
from spendmeter_gateway.admission.decision_cache import AdmissionCache
from spendmeter_gateway.model import Policy
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

BEGIN = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = Policy(on_stale="allow", stale_after_seconds=30.0, ack_wait_seconds=0.3)
SUBJECT = Subject(key="k", user="u")
MATCHES: dict[str, dict[str, str]] = {"all": {}, "key": {"key": "*"}, "user": {"user": "u"}}
IDS = st.sampled_from(sorted(MATCHES))
MINUTES = st.integers(-90, 180)


class World(RuleBasedStateMachine):
    """One subject, up to three budgets, and a clock that may run back."""

    @initialize()
    def begin(self) -> None:
        self.book, self.spend, self.looks = BudgetBook(), SpendTracker(), AdmissionCache()
        self.now = BEGIN
        self.seq = self.revision = 0

    @rule(
        budget_id=IDS,
        limit=st.integers(1, 6),
        period=st.sampled_from(["hour", "day", "lifetime"]),
        action=st.sampled_from([Action.BLOCK, Action.BLOCK, Action.WARN]),
        enforcement=st.sampled_from([Enforcement.SETTLED, Enforcement.SETTLED, Enforcement.STRICT]),
        raised=st.none() | MINUTES,
        reset=st.none() | MINUTES,
        paused=st.booleans(),
    )
    def put(self, budget_id: str, limit: int, raised: int | None, reset: int | None, **fields: Any) -> None:
        self.revision += 1
        raises = [] if raised is None else [Raise(amount_nanousd=NanoUsd(2), until=self._at(raised))]
        given = {"id": budget_id, "match": MATCHES[budget_id], "limit_nanousd": limit, "raises": raises}
        changes = {"reset_at": None if reset is None else self._at(reset), "revision": self.revision}
        self.book.put(Budget.model_validate({**given, **changes, **fields, "updated_at": BEGIN}))

    @rule(budget_id=IDS)
    def remove(self, budget_id: str) -> None:
        self.book.remove(budget_id)

    @rule(minutes=MINUTES)
    def clock(self, minutes: int) -> None:
        self.now = self._at(minutes)

    @rule(cost=st.integers(0, 3), is_acknowledged=st.booleans())
    def spends(self, cost: int, is_acknowledged: bool) -> None:
        charges = []
        for account in self.book.accounts_of(SUBJECT):
            window = self.book.window_of(account.budget, self.now)
            if window is not None:
                charges.append(
                    Charge(account.budget.id, account.name, window.start, window.end, NanoUsd(cost))
                )
        self.seq += 1
        self.spend.record(self.seq, charges, 0.0)
        if is_acknowledged:
            self.spend.acknowledge(self.seq, Acknowledgement(0, self.seq, 0.0, resent=False))

    @rule(spent=st.integers(0, 8), version=st.integers(1, 20))
    def hears(self, spent: int, version: int) -> None:
        for account in self.book.accounts_of(SUBJECT):
            window = self.book.present_window(account.budget, self.now)
            if window is not None:
                signal = Signal(
                    budget_id=account.budget.id,
                    account=account.name,
                    subject={},
                    window_start=window.start,
                    window_end=window.end,
                    limit_nanousd=NanoUsd(1),
                    spent_nanousd=NanoUsd(spent),
                    state=State.OK,
                    watermark={0: version},
                    revision=1,
                    version=version,
                    emitted_at=self.now,
                )
                self.spend.apply(signal, self.now)

    @rule()
    def prune(self) -> None:
        self.spend.prune(self.spend.keys(), self.now, lambda _: False)

    @rule()
    def look(self) -> None:
        if self._decided() is ADMIT:
            self.looks.remember(SUBJECT, self.book, self.book.accounts_of(SUBJECT), self.now)

    @invariant()
    def a_remembered_look_is_right(self) -> None:
        if self.looks.admits(SUBJECT, self.book, self.spend, self.now):
            assert self._decided() is ADMIT

    def _decided(self) -> Decision:
        at = DecisionContext(
            self.now, 0.0, budgets_are_read=True, views_are_current=True, model_is_unpriced=True
        )
        return decide(self.book, self.book.accounts_of(SUBJECT), self.spend, at, POLICY)

    def _at(self, minutes: int) -> datetime:
        return BEGIN + timedelta(minutes=minutes)


TestLooks = World.TestCase
