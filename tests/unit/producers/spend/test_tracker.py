"""The corners of known spend that a random walk seldom reaches."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter_gateway.spend import tracker as own_spend
from spendmeter_gateway.spend import window_balance as window_spend
from spendmeter_gateway.spend.charges import Charge
from spendmeter_gateway.spend.tracker import SpendTracker
from spendmeter_gateway.spend.window_balance import Acknowledgement

ACCOUNT = "key-day|key=k"
START = datetime(2026, 11, 22, tzinfo=UTC)
END = START + timedelta(days=1)
NOON = START + timedelta(hours=12)


def charge(cost: int, start: datetime = START) -> list[Charge]:
    return [Charge("key-day", ACCOUNT, start, start + timedelta(days=1), NanoUsd(cost))]


def signal(spent: int, watermark: dict[int, int], version: int = 1, start: datetime = START) -> Signal:
    return Signal(
        budget_id="key-day",
        account=ACCOUNT,
        subject={"key": "k"},
        window_start=start,
        window_end=start + timedelta(days=1),
        limit_nanousd=NanoUsd(100),
        spent_nanousd=NanoUsd(spent),
        state=State.OK,
        watermark=watermark,
        revision=1,
        version=version,
        emitted_at=start,
    )


def stored(offset: int, *, partition: int = 0, resent: bool = False) -> Acknowledgement:
    return Acknowledgement(partition, offset, 0.0, resent)


def test_an_event_counts_the_moment_it_is_recorded() -> None:
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)

    assert spend.known(ACCOUNT, START).certain_nanousd == 7


def test_a_signal_that_came_before_the_event_leaves_no_doubt() -> None:
    spend = SpendTracker()
    spend.apply(signal(50, {0: 4}), NOON)
    spend.record(1, charge(7), 0.0)

    assert spend.known(ACCOUNT, START)[:2] == (57, 0)


@pytest.mark.parametrize(
    ("spent", "cost", "is_urgent"), [(0, 99, False), (0, 100, True), (7_999, 0, False), (8_000, 0, True)]
)
def test_an_event_is_urgent_that_is_much_of_a_limit_or_close_to_it(
    spent: int, cost: int, is_urgent: bool
) -> None:
    spend = SpendTracker()
    spend.apply(signal(spent, {0: 4}).model_copy(update={"limit_nanousd": NanoUsd(10_000)}), NOON)

    assert spend.record(1, charge(cost), 0.0) is is_urgent


def test_events_become_urgent_together_until_they_are_stored() -> None:
    spend = SpendTracker()
    spend.apply(signal(0, {0: 4}).model_copy(update={"limit_nanousd": NanoUsd(10_000)}), NOON)

    assert not spend.record(1, charge(60), 0.0)
    assert spend.record(2, charge(60), 0.0)
    spend.acknowledge(1, stored(5))
    spend.acknowledge(2, stored(6))
    assert not spend.record(3, charge(60), 0.0)


def test_an_event_of_an_unknown_limit_is_urgent_and_one_without_account_is_not() -> None:
    spend = SpendTracker()

    assert spend.record(1, charge(1), 0.0)
    assert not spend.record(2, [], 0.0)


def test_a_signal_that_came_after_the_event_may_include_it() -> None:
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)
    spend.apply(signal(50, {0: 4}), NOON)

    assert spend.known(ACCOUNT, START)[:2] == (50, 7)


@pytest.mark.parametrize(("offset", "certain"), [(4, 50), (5, 57)])
def test_the_acknowledgement_tells_whether_the_signal_includes_the_event(offset: int, certain: int) -> None:
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)
    spend.apply(signal(50, {0: 4}), NOON)
    spend.acknowledge(1, stored(offset))

    assert spend.known(ACCOUNT, START)[:2] == (certain, 0)


def test_a_signal_that_says_nothing_new_brings_no_doubt() -> None:
    """A raise makes the judge signal again without any new event."""
    spend = SpendTracker()
    spend.apply(signal(50, {0: 4}), NOON)
    spend.record(1, charge(7), 0.0)
    spend.apply(signal(50, {0: 4}).model_copy(update={"revision": 2}), NOON)

    assert spend.known(ACCOUNT, START)[:2] == (57, 0)


def test_an_event_sent_twice_is_in_doubt_until_a_signal_passes_its_last_copy() -> None:
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)
    spend.apply(signal(57, {0: 4}), NOON)
    spend.acknowledge(1, stored(9, resent=True))
    assert spend.known(ACCOUNT, START)[:2] == (57, 7)

    spend.apply(signal(57, {0: 9}), NOON)
    assert spend.known(ACCOUNT, START)[:2] == (57, 0)

    spend.apply(signal(57, {0: 4}), NOON)
    spend.record(2, charge(1), 0.0)
    spend.acknowledge(2, stored(8, resent=True))
    assert spend.known(ACCOUNT, START)[:2] == (57, 0), "a replayed signal must not lower the watermark"


def test_spend_of_another_window_is_never_told() -> None:
    spend = SpendTracker()
    spend.apply(signal(50, {0: 4}), NOON)
    spend.record(1, charge(7), 0.0)

    assert spend.known(ACCOUNT, END) == window_spend.NOTHING


@pytest.mark.parametrize(("moment", "spent"), [(END - timedelta(microseconds=1), 50), (END, 0)])
def test_a_signal_of_an_ended_window_is_not_taken(moment: datetime, spent: int) -> None:
    spend = SpendTracker()
    spend.apply(signal(50, {0: 4}), moment)

    assert spend.known(ACCOUNT, START).certain_nanousd == spent


@pytest.mark.parametrize(("moment", "left"), [(END - timedelta(microseconds=1), 1), (END, 0)])
def test_a_window_is_dropped_when_it_has_ended(moment: datetime, left: int) -> None:
    spend = SpendTracker()
    spend.apply(signal(50, {0: 4}), NOON)
    spend.prune(spend.keys(), moment, lambda _: False)

    assert len(spend) == left


def test_a_window_that_was_made_longer_is_kept_until_its_new_end() -> None:
    """A reset began it, then the budget got a longer period."""
    longer = END + timedelta(hours=1)
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)
    spend.apply(signal(0, {}).model_copy(update={"window_end": longer}), NOON)
    spend.prune(spend.keys(), END, lambda _: False)
    assert spend.known(ACCOUNT, START).certain_nanousd == 7

    spend.prune(spend.keys(), longer, lambda _: False)
    assert len(spend) == 0


def test_the_windows_of_a_removed_budget_are_dropped_and_late_acknowledgements_do_no_harm() -> None:
    spend = SpendTracker()
    spend.record(1, charge(7), 0.0)
    spend.prune(spend.keys(), NOON, lambda budget_id: budget_id == "key-day")
    spend.acknowledge(1, stored(5))

    assert len(spend) == 0
    assert spend.known(ACCOUNT, START).certain_nanousd == 0


def test_beyond_the_bound_events_are_held_together_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_spend, "MAX_UNCOVERED_PER_PARTITION", 3)
    spend = SpendTracker()
    for offset in range(10):
        spend.record(offset + 1, charge(1), 0.0)
        spend.acknowledge(offset + 1, stored(offset))
    assert spend.known(ACCOUNT, START).certain_nanousd == 10

    spend.apply(signal(2, {0: 1}), NOON)
    assert spend.known(ACCOUNT, START).certain_nanousd == 10

    # Those held together leave with the first of them: too little for an instant, never too much.
    spend.apply(signal(3, {0: 2}, version=2), NOON)
    assert spend.known(ACCOUNT, START).certain_nanousd == 3


def test_beyond_the_bound_unacknowledged_events_count_until_the_next_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_spend, "MAX_RECORDED", 2)
    spend = SpendTracker()
    for seq in range(1, 6):
        spend.record(seq, charge(1), 0.0)
    assert spend.known(ACCOUNT, START)[:2] == (5, 0)

    spend.apply(signal(1, {0: 0}), NOON)
    assert spend.known(ACCOUNT, START)[:2] == (1, 2)


def test_the_oldest_event_without_acknowledgement_is_known() -> None:
    spend = SpendTracker()
    assert spend.oldest_recorded_seconds() is None
    spend.record(1, charge(1), 10.0)
    spend.record(2, charge(1), 11.0)
    spend.acknowledge(1, stored(0))

    assert spend.oldest_recorded_seconds() == 11.0


def test_an_answer_counts_until_it_is_recorded_and_then_as_it_was_recorded() -> None:
    spend = SpendTracker()
    assert spend.answer(UUID(int=1), 7, charge(7), 0.0)
    assert spend.known(ACCOUNT, START)[:2] == (7, 0)

    assert spend.settle(UUID(int=1)) == 7
    assert spend.settle(UUID(int=1)) is None
    spend.record(1, charge(5), 0.0)
    assert spend.known(ACCOUNT, START)[:2] == (5, 0)
    assert spend.pending_count == 0


def test_an_answer_cannot_be_in_a_signal() -> None:
    spend = SpendTracker()
    spend.answer(UUID(int=1), 7, charge(7), 0.0)
    spend.apply(signal(50, {0: 4}), NOON)

    assert spend.known(ACCOUNT, START)[:2] == (57, 0)


def test_an_answer_counts_once_however_often_it_is_told() -> None:
    spend = SpendTracker()
    spend.answer(UUID(int=1), 7, charge(7), 0.0)
    assert spend.answer(UUID(int=1), 7, charge(7), 0.0)

    assert spend.known(ACCOUNT, START).certain_nanousd == 7


@pytest.mark.parametrize(("moment", "left"), [(10.0, 7), (10.1, 0)])
def test_an_answer_that_is_never_recorded_counts_no_longer(moment: float, left: int) -> None:
    spend = SpendTracker()
    spend.answer(UUID(int=1), 7, charge(7), 10.0)
    spend.answer(UUID(int=2), 3, charge(3), 11.0)

    assert spend.expire(moment) == ([UUID(int=1)] if not left else [])
    assert spend.known(ACCOUNT, START).certain_nanousd == 3 + left


def test_answers_beyond_the_bound_do_not_count_before_they_are_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_spend, "MAX_PENDING", 1)
    spend = SpendTracker()
    assert spend.answer(UUID(int=1), 7, charge(7), 0.0)
    assert not spend.answer(UUID(int=2), 3, charge(3), 0.0)

    assert spend.known(ACCOUNT, START).certain_nanousd == 7


def test_a_window_in_which_only_an_answer_counts_is_kept_and_a_removed_one_does_no_harm() -> None:
    spend = SpendTracker()
    spend.answer(UUID(int=1), 7, charge(7), 0.0)
    spend.prune(spend.keys(), NOON, lambda _: False)
    assert spend.known(ACCOUNT, START).certain_nanousd == 7

    spend.prune(spend.keys(), NOON, lambda _: True)
    spend.answer(UUID(int=2), 3, charge(3), 0.0)
    assert spend.settle(UUID(int=1)) == 7
    assert spend.known(ACCOUNT, START).certain_nanousd == 3
