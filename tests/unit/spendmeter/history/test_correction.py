"""What a correction sends, and what it does to an account."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.money import LIMIT_OF_AMOUNTS_NANOUSD, NanoUsd
from spendmeter.contract.signal import State
from spendmeter.contract.usage import CostSource, Status, UsageEvent, UsageKind
from spendmeter.domain.matching import BudgetBook, subject_of
from spendmeter.history.correction import CorrectedEvent, NotCorrectable, correct, producer_of
from spendmeter_stream.judge.judge import Evaluation, Judge
from spendmeter_stream.meter.meter import Meter, UsageRecord
from tests.builders import NOON, budget, usage

EVENT_ID = UUID("019a2c5e-5c00-7abc-8def-0123456789ab")
DAY = timedelta(days=1)


def original(cost: int = 1_000_000, **fields: Any) -> UsageEvent:
    given = {"event_id": EVENT_ID, "user": "ann", "tags": ("a",), "input_tokens": 5, "total_tokens": 5}
    return usage(1, cost, **{**given, **fields})


def corrected(recorded: CorrectedEvent, cost: int, kind: UsageKind = UsageKind.CORRECTION) -> UsageEvent:
    event = correct(recorded, NanoUsd(cost), kind=kind, reason="refund", recorded_by="ann")
    assert event is not None
    return event


def after(recorded: CorrectedEvent, event: UsageEvent) -> CorrectedEvent:
    return CorrectedEvent(recorded.original, (*recorded.corrections, event))


def test_a_correction_says_the_difference_for_the_same_subject_and_moment() -> None:
    event = corrected(CorrectedEvent(original()), 400_000)
    assert event.cost_nanousd == -600_000
    assert (event.kind, event.corrects) == (UsageKind.CORRECTION, EVENT_ID)
    assert subject_of(event) == subject_of(original())
    assert event.occurred_at == original().occurred_at
    assert (event.input_tokens, event.total_tokens, event.duration_ms) == (0, 0, 0)
    assert (event.reason, event.recorded_by) == ("refund", "ann")


def test_earlier_corrections_are_taken_into_account() -> None:
    first = CorrectedEvent(original())
    second = after(first, corrected(first, 400_000))
    event = corrected(second, 900_000)
    assert event.cost_nanousd == 500_000
    assert event.seq == 2
    assert after(second, event).cost_nanousd == 900_000


def test_a_void_takes_back_what_is_left() -> None:
    first = CorrectedEvent(original())
    second = after(first, corrected(first, 400_000))
    event = corrected(second, 0, UsageKind.VOID)
    assert (event.kind, event.cost_nanousd) == (UsageKind.VOID, -400_000)


@pytest.mark.parametrize(("cost", "kind"), [(1_000_000, UsageKind.CORRECTION), (0, UsageKind.VOID)])
def test_what_costs_that_already_needs_no_correction(cost: int, kind: UsageKind) -> None:
    recorded = CorrectedEvent(original(cost))
    assert correct(recorded, NanoUsd(cost), kind=kind, reason="r", recorded_by="a") is None


def test_the_same_correction_made_again_or_by_another_person_is_one_event() -> None:
    recorded = CorrectedEvent(original())
    one, other = corrected(recorded, 5), corrected(recorded, 5)
    assert one == other
    assert one.producer_id == producer_of(EVENT_ID)
    assert one.event_id.version == 7
    assert one.event_id.int >> 80 == EVENT_ID.int >> 80


def test_different_corrections_of_the_same_state_have_one_place_so_only_the_first_counts() -> None:
    recorded = CorrectedEvent(original())
    one, other = corrected(recorded, 5), corrected(recorded, 0, UsageKind.VOID)
    assert (one.event_id, one.producer_id, one.seq) == (other.event_id, other.producer_id, other.seq)
    assert folded([original(), one, other]) == {"per-key|key=k1": 5}


def test_corrections_of_somebody_elses_making_count_but_leave_our_sequence_dense() -> None:
    foreign = original().model_copy(
        update={
            "kind": UsageKind.CORRECTION,
            "corrects": EVENT_ID,
            "producer_id": "x",
            "seq": 77,
            "cost_nanousd": -1,
        }
    )
    event = corrected(CorrectedEvent(original(), (foreign,)), 999_999 + 5)
    assert (event.seq, event.cost_nanousd) == (1, 5)


def test_a_correction_is_not_corrected_itself() -> None:
    event = corrected(CorrectedEvent(original()), 5)
    with pytest.raises(NotCorrectable, match="name that one"):
        corrected(CorrectedEvent(event), 5)


@pytest.mark.parametrize("cost", [-1, 2 * LIMIT_OF_AMOUNTS_NANOUSD])
def test_an_amount_that_cannot_be_is_refused(cost: int) -> None:
    with pytest.raises(NotCorrectable):
        corrected(CorrectedEvent(original()), cost)


def test_an_unpriced_request_that_gets_a_cost_no_longer_counts_a_flat_amount() -> None:
    recorded = CorrectedEvent(original(0, cost_source=CostSource.UNPRICED))
    flat = budget(unpriced="0.01")
    assert folded([recorded.original], flat) == {"per-key|key=k1": 10_000_000}
    first = corrected(recorded, 3_000)
    assert folded([recorded.original, first], flat) == {"per-key|key=k1": 3_000}
    second = corrected(after(recorded, first), 4_000)
    assert folded([recorded.original, first, second], flat) == {"per-key|key=k1": 4_000}


def test_a_void_of_an_unpriced_request_takes_its_flat_amount_back_once() -> None:
    recorded = CorrectedEvent(original(0, cost_source=CostSource.UNPRICED))
    void = corrected(recorded, 0, UsageKind.VOID)
    assert folded([recorded.original, void], budget(unpriced="0.01")) == {"per-key|key=k1": 0}
    assert (
        correct(after(recorded, void), NanoUsd(0), kind=UsageKind.VOID, reason="r", recorded_by="a") is None
    )


def test_a_failed_request_without_a_price_counted_no_flat_amount_and_gives_none_back() -> None:
    recorded = CorrectedEvent(original(7, cost_source=CostSource.UNPRICED, status=Status.FAILURE))
    event = corrected(recorded, 0, UsageKind.VOID)
    assert folded([recorded.original, event], budget(unpriced="0.01")) == {"per-key|key=k1": 0}


def folded(events: list[UsageEvent], of: Any = None) -> dict[str, int]:
    meter = Meter(0)
    meter.fold([UsageRecord(n, NOON, event) for n, event in enumerate(events)], BudgetBook([of or budget()]))
    return {where.account: tally.spent_nanousd for where, tally in meter.tallies.items()}


class Stream:
    """Meter and judge, one after the other."""

    def __init__(self, **of_budget: Any) -> None:
        self.book = BudgetBook([budget(**of_budget)])
        self.meter, self.judge, self.offset = Meter(0), Judge(), 0

    def takes(self, event: UsageEvent, now: datetime = NOON) -> Evaluation:
        totals = self.meter.fold([UsageRecord(self.offset, now, event)], self.book).totals
        self.offset += 1
        self.judge.apply(totals)
        return self.judge.judge(self.book, now)


def test_a_correction_brings_an_account_below_its_limit_again_and_says_so() -> None:
    stream = Stream()
    assert stream.takes(original()).signals[-1].state is State.EXCEEDED
    told = stream.takes(corrected(CorrectedEvent(original()), 999_999))
    assert told.signals[-1].state is State.WARNING
    assert told.signals[-1].spent_nanousd == 999_999
    assert [alert.kind for alert in told.alerts] == [AlertKind.RECOVERED]


def test_a_correction_upwards_may_exceed_an_account() -> None:
    stream = Stream()
    stream.takes(original(999_999))
    told = stream.takes(corrected(CorrectedEvent(original(999_999)), 1_000_000))
    assert told.signals[-1].state is State.EXCEEDED
    assert AlertKind.EXCEEDED in [alert.kind for alert in told.alerts]


def test_a_late_correction_moves_the_window_of_the_original_and_not_the_present_one() -> None:
    stream = Stream()
    stream.takes(original())
    tomorrow = usage(2, 300, occurred_at=NOON + DAY, started_at=NOON + DAY)
    ended = stream.takes(tomorrow, NOON + DAY)
    told = stream.takes(corrected(CorrectedEvent(original()), 100), NOON + DAY)
    spent = {
        where.window_start: sum(part.spent_nanousd for part in state.components.values())
        for where, state in stream.judge.accounts.items()
    }
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert spent == {midnight: 100, midnight + DAY: 300}
    assert told.signals == [], "the signal of the present window stays the account's last"
    recovered = [alert.kind for alert in (*ended.alerts, *told.alerts)].count(AlertKind.RECOVERED)
    assert recovered == 1, "the end of the window or the correction, whichever came first"


def test_a_replayed_or_resent_correction_adds_nothing() -> None:
    stream = Stream()
    event = corrected(CorrectedEvent(original()), 100)
    stream.takes(original())
    stream.takes(event)
    stream.takes(event)
    assert [tally.spent_nanousd for tally in stream.meter.tallies.values()] == [100]
    again = [UsageRecord(n, NOON, e) for n, e in enumerate([original(), event, event])]
    assert stream.meter.fold(again, stream.book).counted == 0
    assert [tally.spent_nanousd for tally in stream.meter.tallies.values()] == [100]
