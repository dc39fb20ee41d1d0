"""Opening balances: which are due, and what history adds up to below the offsets."""

from datetime import timedelta
from typing import Any

from spendmeter.contract.budget import Budget
from spendmeter.contract.total import Opening
from spendmeter.domain.matching import BudgetBook
from spendmeter.values.times import to_unix_us
from spendmeter_sinks.opening_balance.balance import Balances
from spendmeter_sinks.opening_balance.pending_backfills import (
    BackfillRequest,
    PendingBackfills,
    closing_of,
    is_covered,
)
from tests.builders import NOON, budget

MIDNIGHT = NOON.replace(hour=0)
YESTERDAY = NOON - timedelta(days=1)


def opened(book: BudgetBook, one: Budget, partition: int, offset: int) -> Opening:
    return Opening(
        budget_id=one.id, shape=book.shape_of(one), source_partition=partition, first_offset=offset
    )


def ledger_of(*openings: Opening) -> PendingBackfills:
    ledger = PendingBackfills()
    for opening in openings:
        ledger.apply(opening.key(), opening)
    return ledger


def row(partition: int, offset: int, cost: Any, key: str = "k1", at: Any = NOON) -> Any:
    return (partition, offset, to_unix_us(at), to_unix_us(at), cost, (key,))


def added_up(
    dues: list[BackfillRequest], book: BudgetBook, *rows: Any
) -> dict[tuple[str, Any], tuple[int, int]]:
    balances = Balances(dues, book, NOON)
    balances.add(rows)
    return {(t.account, t.window_start): (t.spent_nanousd, t.events) for t in balances.totals()}


# What is due.


def test_a_budget_is_due_once_every_partition_counts_it() -> None:
    one = budget()
    book = BudgetBook([one])
    ledger = ledger_of(opened(book, one, 0, 7))
    assert (ledger.due(book, [0, 1]), ledger.waiting(book, [0, 1])) == ([], 1)
    ledger = ledger_of(opened(book, one, 0, 7), opened(book, one, 1, 3))
    assert ledger.due(book, [0, 1]) == [BackfillRequest(one, book.shape_of(one), {0: 7, 1: 3})]


def test_what_was_taken_is_not_due_again_until_it_opens_anew() -> None:
    one = budget()
    book = BudgetBook([one])
    ledger = ledger_of(opened(book, one, 0, 7))
    note = closing_of(ledger.due(book, [0])[0])
    ledger.apply(note.key(), note)
    assert ledger.due(book, [0]) == []
    again = opened(book, one, 0, 9)
    ledger.apply(again.key(), again)
    assert [due.before for due in ledger.due(book, [0])] == [{0: 9}]


def test_a_budget_that_was_removed_and_came_back_is_due_again() -> None:
    one = budget()
    book = BudgetBook([one])
    ledger = ledger_of(opened(book, one, 0, 7))
    note = closing_of(ledger.due(book, [0])[0])
    ledger.apply(note.key(), note)
    ledger.forget(one.id)
    assert len(ledger.due(book, [0])) == 1


def test_a_higher_revision_is_due_again_only_where_nobody_saw_it_change() -> None:
    one, changed = budget(revision=1), budget(revision=2, limit_nanousd=7)
    book = BudgetBook([one])
    seeing = ledger_of(opened(book, one, 0, 7))
    note = closing_of(seeing.due(book, [0])[0])
    seeing.apply(note.key(), note)
    assert seeing.due(book, [0]) == []
    book.put(changed)
    assert seeing.due(book, [0]) == []
    restarted = ledger_of(opened(book, changed, 0, 7), note)
    assert len(restarted.due(book, [0])) == 1


def test_a_balance_waits_for_the_last_offset_below_it() -> None:
    due = BackfillRequest(budget(), "s", {0: 7, 1: 0})
    assert not is_covered(due, {0: 6})
    assert is_covered(due, {0: 7})


def test_a_partition_without_a_commit_is_covered_where_nothing_lies_below_the_offset() -> None:
    assert is_covered(BackfillRequest(budget(), "s", {0: 0, 1: 0}), {})
    assert not is_covered(BackfillRequest(budget(), "s", {0: 1}), {})


def test_what_a_budget_waits_for_is_said() -> None:
    one, other = budget(id="one"), budget(id="other")
    book = BudgetBook([one, other])
    ledger = ledger_of(*(opened(book, one, p, offset) for p, offset in enumerate((7, 3, 0))))
    assert dict(ledger.reasons(book, [0, 1, 2], {0: 5})) == {
        "one": "history holds spend.usage [0] up to 5, needed up to 7, [1] up to nothing, needed up to 3",
        "other": "no stream worker counts it in partitions [0, 1, 2] of spend.usage yet",
    }


# What it adds up to.


def test_only_what_lies_below_the_offset_is_taken() -> None:
    one = budget()
    book = BudgetBook([one])
    due = BackfillRequest(one, book.shape_of(one), {0: 7, 1: 3})
    found = added_up([due], book, row(0, 6, 5), row(0, 7, 11), row(1, 2, 13), row(1, 3, 17), row(2, 0, 19))
    assert found == {("per-key|key=k1", MIDNIGHT): (18, 2)}


def test_each_budget_has_its_own_offset() -> None:
    one, other = budget(id="one"), budget(id="other")
    book = BudgetBook([one, other])
    dues = [
        BackfillRequest(one, book.shape_of(one), {0: 1}),
        BackfillRequest(other, book.shape_of(other), {0: 2}),
    ]
    found = added_up(dues, book, row(0, 0, 5), row(0, 1, 7))
    assert found == {("one|key=k1", MIDNIGHT): (5, 1), ("other|key=k1", MIDNIGHT): (12, 2)}


def test_windows_that_are_over_are_passed_over_and_later_ones_are_not() -> None:
    one = budget()
    book = BudgetBook([one])
    due = BackfillRequest(one, book.shape_of(one), {0: 9})
    tomorrow = NOON + timedelta(days=1)
    found = added_up([due], book, row(0, 0, 5, at=YESTERDAY), row(0, 1, 7), row(0, 2, 9, at=tomorrow))
    assert found == {
        ("per-key|key=k1", MIDNIGHT): (7, 1),
        ("per-key|key=k1", MIDNIGHT + timedelta(days=1)): (9, 1),
    }


def test_what_another_budget_replaces_is_not_taken() -> None:
    default, exception = budget(id="default"), budget(id="vip", match={"key": "k1"}, replaces="default")
    book = BudgetBook([default, exception])
    due = BackfillRequest(default, book.shape_of(default), {0: 9})
    assert added_up([due], book, row(0, 0, 5), row(0, 1, 7, key="k2")) == {
        ("default|key=k2", MIDNIGHT): (7, 1)
    }


def test_corrections_and_flat_amounts_count_as_in_the_stream() -> None:
    one = budget(unpriced="0.000000003")
    book = BudgetBook([one])
    balances = Balances([BackfillRequest(one, book.shape_of(one), {0: 9})], book, NOON)
    assert balances.has_flats
    balances.add([row(0, 0, 0), row(0, 1, 10), row(0, 2, -4)])
    balances.add_flats([row(0, 0, (1, 1))])
    assert [(t.spent_nanousd, t.events) for t in balances.totals()] == [(9, 3)]


def test_that_these_were_all_is_said_for_each_budget_also_where_history_has_nothing() -> None:
    one = budget()
    book = BudgetBook([one])
    balances = Balances([BackfillRequest(one, book.shape_of(one), {0: 7, 1: 3})], book, NOON)
    (closing,) = balances.closings()
    assert list(balances.totals()) == []
    assert closing.closes_opening
    assert (closing.account, closing.window_start, closing.last_offset) == ("per-key", MIDNIGHT, 10)
    assert (closing.before, closing.shape) == ({0: 7, 1: 3}, book.shape_of(one))
