"""What is remembered of where events are charged, and when it is not believed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter.domain.matching import BudgetBook
from spendmeter_gateway.spend.charge_cache import ChargeCache
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
NOON = MIDNIGHT + timedelta(hours=12)
NEXT_DAY = MIDNIGHT + timedelta(days=1)
A_MICROSECOND = timedelta(microseconds=1)


def budget(**changes: Any) -> Budget:
    given = {"id": "b", "match": {"key": "*"}, "limit_nanousd": 100, "period": "day", "updated_at": MIDNIGHT}
    return Budget.model_validate(given | changes)


class Charging:
    """Events of one key, one after the other."""

    def __init__(self, *budgets: Budget) -> None:
        self.book, self.spend, self.charged = BudgetBook(budgets), SpendTracker(), ChargeCache()
        self.seq = 0

    def spends(self, cost: int, at: datetime = NOON, now: datetime | None = None, **changes: Any) -> None:
        self.seq += 1
        given = {"occurred_at": at, "started_at": at, "key": "k", "cost_nanousd": NanoUsd(cost)}
        who = {
            "event_id": UUID(int=7),
            "producer_id": "p",
            "seq": self.seq,
            "cost_source": CostSource.LITELLM,
        }
        event = UsageEvent.model_validate(who | given | changes)
        self.spend.record_in(self.seq, *self.charged.where(event, self.book, self.spend, now or at), 0.0)

    def known(self, start: datetime = MIDNIGHT) -> int:
        return self.spend.known("b|key=k", start).certain_nanousd


def test_events_of_one_subject_add_up() -> None:
    charging = Charging(budget())
    charging.spends(1)
    charging.spends(2)
    assert charging.known() == 3


def test_a_window_that_was_dropped_is_not_charged_any_more() -> None:
    charging = Charging(budget())
    charging.spends(0)
    charging.spend.acknowledge(1, Acknowledgement(0, 1, 0.0, resent=False))
    charging.spend.prune(charging.spend.keys(), NOON, lambda _: False)
    charging.spends(2)
    assert charging.known() == 2


def test_an_event_without_a_price_costs_what_the_budget_says() -> None:
    charging = Charging(budget(unpriced="0.000000005"))
    charging.spends(1)
    charging.spends(0, cost_source=CostSource.UNPRICED)
    assert charging.known() == 6


def test_a_day_is_charged_to_its_last_microsecond_and_no_longer() -> None:
    charging = Charging(budget())
    charging.spends(1)
    charging.spends(2, NEXT_DAY - A_MICROSECOND)
    charging.spends(4, NEXT_DAY, now=NOON)
    assert (charging.known(), charging.known(NEXT_DAY)) == (3, 4)


def test_an_event_that_comes_after_its_window_is_charged_nowhere() -> None:
    charging = Charging(budget())
    charging.spends(1)
    charging.spends(2, NEXT_DAY - A_MICROSECOND, now=NEXT_DAY)
    assert charging.known() == 1


def test_an_event_before_a_reset_is_not_charged_after_it() -> None:
    charging = Charging(budget(reset_at=NOON))
    charging.spends(1)
    charging.spends(2, NOON - A_MICROSECOND)
    assert (charging.known(NOON), charging.known()) == (1, 2)


def test_an_account_that_had_no_window_yet_is_charged_once_it_has() -> None:
    charging = Charging(budget(starts_at=NOON, period="PT1H"))
    charging.spends(1, NOON - A_MICROSECOND)
    charging.spends(2)
    assert charging.known(NOON) == 2


def test_any_change_of_a_budget_is_seen() -> None:
    charging = Charging(budget())
    charging.spends(1)
    charging.book.put(budget(period="hour", revision=2))
    charging.spends(2)
    assert (charging.known(), charging.known(NOON)) == (1, 2)
