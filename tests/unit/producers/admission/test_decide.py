"""When a request is admitted, refused, or waits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spendmeter.contract.budget import Action, Budget, Raise
from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter_gateway.admission.decide import (
    ADMIT,
    BLIND_AT_START,
    Decision,
    DecisionContext,
    Denied,
    WaitForAcknowledgement,
    decide,
)
from spendmeter_gateway.model import Policy
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
NOON = MIDNIGHT + timedelta(hours=12)
NEXT_DAY = MIDNIGHT + timedelta(days=1)
POLICY = Policy(on_stale="allow", stale_after_seconds=30.0, ack_wait_seconds=0.3)
BLOCK = POLICY._replace(on_stale="block")
SUBJECT = Subject(key="k")


def budget(**changes: Any) -> Budget:
    given = {"id": "b", "match": {"key": "*"}, "limit_nanousd": 100, "period": "day", "updated_at": MIDNIGHT}
    return Budget.model_validate(given | changes)


class Gateway:
    """What a decision needs, brought together."""

    def __init__(self, *budgets: Budget) -> None:
        self.book = BudgetBook(budgets)
        self.spend = SpendTracker()
        self.seq = 0

    def hears(
        self, spent: int, *, budget_id: str = "b", version: int = 1, watermark: dict[int, int] | None = None
    ) -> None:
        of = self.book.get(budget_id)
        assert of is not None
        window = self.book.window_of(of, NOON)
        assert window is not None
        self.spend.apply(
            Signal(
                budget_id=budget_id,
                account=f"{budget_id}|key=k",
                subject={"key": "k"},
                window_start=window.start,
                window_end=window.end,
                limit_nanousd=NanoUsd(1),
                spent_nanousd=NanoUsd(spent),
                state=State.EXCEEDED,
                watermark=watermark or {0: version},
                revision=1,
                version=version,
                emitted_at=NOON,
            ),
            NOON,
        )

    def spends(self, cost: int, at_seconds: float = 0.0) -> int:
        self.seq += 1
        charges = [Charge("b", "b|key=k", MIDNIGHT, NEXT_DAY, NanoUsd(cost))]
        self.spend.record(self.seq, charges, at_seconds)
        return self.seq

    def decides(
        self,
        now: datetime = NOON,
        *,
        seconds: float = 0.1,
        policy: Policy = POLICY,
        budgets_are_read: bool = True,
        views_are_current: bool = True,
        model_is_unpriced: bool = False,
    ) -> Decision:
        accounts = self.book.accounts_of(SUBJECT)
        at = DecisionContext(now, seconds, budgets_are_read, views_are_current, model_is_unpriced)
        return decide(self.book, accounts, self.spend, at, policy)


def refused(decision: Decision) -> Denied:
    assert isinstance(decision, Denied), decision
    return decision


@pytest.mark.parametrize(("spent", "admitted"), [(99, True), (100, False), (101, False)])
def test_the_limit_itself_is_the_first_amount_that_refuses(spent: int, admitted: bool) -> None:
    gateway = Gateway(budget())
    gateway.hears(spent)

    assert (gateway.decides() is ADMIT) == admitted


@pytest.mark.parametrize(("own", "admitted"), [(9, True), (10, False)])
def test_own_spend_counts_at_once(own: int, admitted: bool) -> None:
    gateway = Gateway(budget())
    gateway.hears(90)
    gateway.spends(own)

    assert (gateway.decides() is ADMIT) == admitted


def test_a_refusal_tells_what_it_rests_on() -> None:
    gateway = Gateway(budget())
    gateway.hears(100, watermark={0: 7, 3: 9})
    refusal = refused(gateway.decides())

    assert refusal.why is Why.LIMIT_REACHED
    assert refusal.account is not None
    assert refusal.account.name == "b|key=k"
    assert refusal.window == (MIDNIGHT, NEXT_DAY)
    assert (refusal.spent_nanousd, refusal.limit_nanousd) == (100, 100)
    assert refusal.known is not None
    assert refusal.known.watermark == {0: 7, 3: 9}


def test_the_limit_is_the_budgets_not_the_signals() -> None:
    gateway = Gateway(budget())
    gateway.hears(100)
    gateway.book.put(budget(limit_nanousd=101, revision=2))

    assert gateway.decides() is ADMIT


@pytest.mark.parametrize(("now", "admitted"), [(NOON - timedelta(microseconds=1), True), (NOON, False)])
def test_a_temporary_raise_holds_until_it_ends(now: datetime, admitted: bool) -> None:
    gateway = Gateway(budget(raises=[Raise(amount_nanousd=NanoUsd(1), until=NOON)]))
    gateway.hears(100)

    assert (gateway.decides(now) is ADMIT) == admitted


@pytest.mark.parametrize(
    ("now", "admitted"), [(NEXT_DAY - timedelta(microseconds=1), False), (NEXT_DAY, True)]
)
def test_the_end_of_a_window_admits_without_any_message(now: datetime, admitted: bool) -> None:
    gateway = Gateway(budget())
    gateway.hears(100)

    assert (gateway.decides(now) is ADMIT) == admitted


def test_a_reset_admits_as_soon_as_it_is_read() -> None:
    gateway = Gateway(budget())
    gateway.hears(100)
    gateway.spends(100)
    gateway.book.put(budget(reset_at=NOON, revision=2))

    assert gateway.decides() is ADMIT


def test_a_reset_that_was_read_admits_although_the_clock_here_is_behind_it() -> None:
    gateway = Gateway(budget())
    gateway.hears(100)
    gateway.book.put(budget(reset_at=NOON + timedelta(seconds=3), revision=2))

    assert gateway.decides(NOON) is ADMIT


def test_nothing_is_enforced_before_the_budget_begins() -> None:
    gateway = Gateway(budget(starts_at=NEXT_DAY))
    gateway.spends(100)

    assert gateway.decides() is ADMIT


@pytest.mark.parametrize("action", [Action.WARN, Action.OBSERVE])
def test_a_budget_that_only_warns_or_observes_never_refuses(action: Action) -> None:
    gateway = Gateway(budget(action=action))
    gateway.hears(1000)

    assert gateway.decides(policy=BLOCK, seconds=1000.0) is ADMIT


def test_a_removed_budget_refuses_nobody() -> None:
    gateway = Gateway(budget())
    gateway.hears(100)
    gateway.book.remove("b")

    assert gateway.decides() is ADMIT


@pytest.mark.parametrize("longest", ["month", "lifetime"])
def test_of_several_refusals_the_one_that_lasts_longest_is_told(longest: str) -> None:
    gateway = Gateway(budget(id="a", period="hour"), budget(id="b", period=longest), budget(id="c"))
    for budget_id in ("a", "b", "c"):
        gateway.hears(100, budget_id=budget_id)
    account = refused(gateway.decides()).account

    assert account is not None
    assert account.budget.id == "b"


class TestWhileAnEventMayBeCountedTwice:
    @pytest.fixture
    def gateway(self) -> Gateway:
        """80 in the signal, 20 recorded before the signal came: 80 or 100 of 100."""
        gateway = Gateway(budget())
        self.seq = gateway.spends(20)
        gateway.hears(80, watermark={0: 7})
        return gateway

    def test_a_refusal_that_hangs_on_it_waits(self, gateway: Gateway) -> None:
        assert isinstance(gateway.decides(), WaitForAcknowledgement)

    @pytest.mark.parametrize(("offset", "admitted"), [(7, True), (8, False)])
    def test_the_acknowledgement_decides(self, gateway: Gateway, offset: int, admitted: bool) -> None:
        gateway.spend.acknowledge(self.seq, Acknowledgement(0, offset, 0.1, False))

        assert (gateway.decides() is ADMIT) == admitted

    def test_a_refusal_that_stands_without_it_is_final(self, gateway: Gateway) -> None:
        gateway.spends(20)

        assert refused(gateway.decides()).spent_nanousd == 100

    def test_an_admission_that_stands_with_it_is_final(self) -> None:
        gateway = Gateway(budget())
        gateway.spends(19)
        gateway.hears(80)

        assert gateway.decides() is ADMIT

    @pytest.mark.parametrize(("seconds", "waits"), [(0.29, True), (0.3, False)])
    def test_where_acknowledgements_fail_to_come_nobody_waits(
        self, gateway: Gateway, seconds: float, waits: bool
    ) -> None:
        decision = gateway.decides(seconds=seconds)

        assert isinstance(decision, WaitForAcknowledgement) if waits else decision is ADMIT


class TestWhenBlind:
    def test_own_spend_refuses_whatever_on_stale_says(self) -> None:
        gateway = Gateway(budget())
        gateway.spends(100)

        assert refused(gateway.decides(views_are_current=False)).why is Why.LIMIT_REACHED

    def test_before_the_budgets_are_read_on_stale_decides(self) -> None:
        gateway = Gateway()

        assert gateway.decides(budgets_are_read=False) is ADMIT
        assert gateway.decides(budgets_are_read=False, policy=BLOCK) is BLIND_AT_START

    def test_while_signals_are_unread_or_kafka_is_silent_on_stale_decides(self) -> None:
        gateway = Gateway(budget())

        assert gateway.decides(views_are_current=False) is ADMIT
        assert refused(gateway.decides(views_are_current=False, policy=BLOCK)).why is Why.BLIND

    def test_a_request_that_falls_under_no_budget_is_never_blind(self) -> None:
        assert Gateway().decides(views_are_current=False, policy=BLOCK) is ADMIT

    @pytest.mark.parametrize(("seconds", "is_blind"), [(29.9, False), (30.0, True)])
    def test_kafka_silent_on_stale_decides(self, seconds: float, is_blind: bool) -> None:
        gateway = Gateway(budget())
        gateway.spends(1)

        assert gateway.decides(seconds=seconds) is ADMIT
        decision = gateway.decides(seconds=seconds, policy=BLOCK)
        assert refused(decision).why is Why.BLIND if is_blind else decision is ADMIT

    @pytest.mark.parametrize(("seconds", "is_blind"), [(29.9, False), (30.0, True)])
    def test_stream_silent_on_stale_decides(self, seconds: float, is_blind: bool) -> None:
        gateway = Gateway(budget())
        gateway.spend.acknowledge(gateway.spends(1), Acknowledgement(0, 8, 0.0, False))

        assert gateway.decides(seconds=seconds) is ADMIT
        decision = gateway.decides(seconds=seconds, policy=BLOCK)
        assert refused(decision).why is Why.BLIND if is_blind else decision is ADMIT

    def test_a_signal_that_covers_our_events_ends_it(self) -> None:
        gateway = Gateway(budget())
        gateway.spend.acknowledge(gateway.spends(1), Acknowledgement(0, 8, 0.0, False))
        gateway.hears(1, watermark={0: 8})

        assert gateway.decides(seconds=1000.0, policy=BLOCK) is ADMIT


def test_a_model_without_a_price_is_refused_where_a_budget_says_so() -> None:
    gateway = Gateway(budget(unpriced="block"))

    assert gateway.decides() is ADMIT
    refusal = refused(gateway.decides(model_is_unpriced=True))
    assert refusal.why is Why.UNPRICED
    assert refusal.account is not None
    assert refusal.account.name == "b|key=k"


@pytest.mark.parametrize(
    "changes",
    [{"unpriced": "allow"}, {"unpriced": "0.01"}, {"unpriced": "block", "action": Action.WARN}],
)
def test_a_model_without_a_price_is_admitted_where_no_blocking_budget_forbids_it(
    changes: dict[str, Any],
) -> None:
    assert Gateway(budget(**changes)).decides(model_is_unpriced=True) is ADMIT


def test_of_a_reached_limit_and_a_model_without_a_price_the_lasting_one_is_told() -> None:
    gateway = Gateway(budget(), budget(id="c", unpriced="block"))
    gateway.hears(100)

    assert refused(gateway.decides()).why is Why.LIMIT_REACHED
    assert refused(gateway.decides(model_is_unpriced=True)).why is Why.UNPRICED


@pytest.mark.parametrize("unpriced", ["allow", "block"])
def test_a_paused_budget_refuses_nothing_and_counts_on(unpriced: str) -> None:
    gateway = Gateway(budget(unpriced=unpriced))
    gateway.hears(100)
    gateway.book.put(budget(unpriced=unpriced, paused=True, revision=2))
    assert gateway.decides(model_is_unpriced=True) is ADMIT

    gateway.book.put(budget(unpriced=unpriced, revision=3))
    assert refused(gateway.decides()).spent_nanousd == 100
