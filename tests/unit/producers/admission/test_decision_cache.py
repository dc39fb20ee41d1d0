"""Which looks are remembered, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spendmeter.contract.budget import Budget, Enforcement, Raise
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter_gateway.admission.decision_cache import AdmissionCache
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
NOON = MIDNIGHT + timedelta(hours=12)
NEXT_DAY = MIDNIGHT + timedelta(days=1)
SUBJECT = Subject(key="k")
A_MICROSECOND = timedelta(microseconds=1)


def budget(**changes: Any) -> Budget:
    given = {"id": "b", "match": {"key": "*"}, "limit_nanousd": 100, "period": "day", "updated_at": MIDNIGHT}
    return Budget.model_validate(given | changes)


class Looked:
    """A subject that was admitted at noon."""

    def __init__(self, *budgets: Budget) -> None:
        self.book, self.spend, self.looks = BudgetBook(budgets), SpendTracker(), AdmissionCache()
        self.looks.remember(SUBJECT, self.book, self.book.accounts_of(SUBJECT), NOON)

    def admits(self, now: datetime = NOON) -> bool:
        return self.looks.admits(SUBJECT, self.book, self.spend, now)

    def spends(self, cost: int) -> None:
        self.spend.record(1, [Charge("b", "b|key=k", MIDNIGHT, NEXT_DAY, NanoUsd(cost))], 0.0)


def test_a_second_look_is_short_to_the_windows_last_microsecond() -> None:
    looked = Looked(budget())
    assert looked.admits(MIDNIGHT)
    assert looked.admits(NEXT_DAY - A_MICROSECOND)
    assert not looked.admits(NEXT_DAY)
    assert not looked.admits(MIDNIGHT - A_MICROSECOND)


@pytest.mark.parametrize(("cost", "is_short"), [(99, True), (100, False)])
def test_it_is_short_while_all_that_may_be_spent_is_below_the_limit(cost: int, is_short: bool) -> None:
    looked = Looked(budget())
    looked.spends(cost)
    assert looked.admits() is is_short


def test_any_change_of_a_budget_asks_for_another_look() -> None:
    looked = Looked(budget())
    looked.book.put(budget(id="other", match={"user": "*"}))
    assert not looked.admits()


def test_it_ends_with_a_raise() -> None:
    soon = NOON + timedelta(hours=1)
    looked = Looked(budget(raises=[Raise(amount_nanousd=NanoUsd(1), until=soon)]))
    looked.spends(100)
    assert looked.admits(soon - A_MICROSECOND)
    assert not looked.admits(soon)


@pytest.mark.parametrize("fields", [{"enforcement": Enforcement.STRICT}, {"unpriced": "block"}])
def test_where_more_than_spend_decides_nothing_is_remembered(fields: dict[str, Any]) -> None:
    assert not Looked(budget(**fields)).admits()
