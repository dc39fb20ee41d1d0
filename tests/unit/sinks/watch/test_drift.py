"""What a comparison is remembered by, and which of its differences an alert is due for."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from spendmeter.history.reconciles import ReconcileOutcome
from spendmeter_sinks.reconcile.remember import MAX_SUMMARY_CHARS, remembered
from spendmeter_sinks.reconcile.report import (
    Compared,
    DeadLetters,
    Difference,
    LostEvents,
    NotCompared,
    Report,
    Sums,
    TotalDiffers,
)
from spendmeter_sinks.watch.drift import drift_alert

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
LOST = LostEvents(producer_id="p1", ranges=((3, 4),), events=2)


def total(stream: int, history: int, account: str = "day|user=ann") -> TotalDiffers:
    return TotalDiffers(
        account=account,
        window_start=NOW,
        source_partition=0,
        first_offset=0,
        last_offset=stream,
        stream_nanousd=stream,
        history_nanousd=history,
        stream_events=3,
        history_events=2,
    )


def report(*differences: Difference, more: int = 0) -> Report:
    return Report(
        equal=not differences,
        checked_at=NOW,
        watermark={0: 9},
        compared=Compared(events=1_234, accounts=5),
        nanousd=Sums(recorded=2_000_000_000, stream=60, history=50 if differences else 60),
        dead_letters=DeadLetters(),
        differences=differences,
        more_differences=more,
        not_compared=(NotCompared(what="windows", count=3, reason="over"),),
        seconds=1.25,
        rows_read=10,
        rows_per_second=8,
    )


def test_a_comparison_is_remembered_with_its_size_and_in_a_sentence() -> None:
    run = remembered(report(), "watch")

    assert run.outcome is ReconcileOutcome.EQUAL
    assert (run.duration_ms, run.events, run.accounts, run.differences, run.left_out) == (1250, 1234, 5, 0, 3)
    assert run.summary == "equal to the nano-dollar: 1,234 events of 5 accounts, $2"
    assert drift_alert(run, None, frozenset(), NOW) is None


def test_the_alert_says_how_many_by_how_much_and_the_first() -> None:
    found = drift_alert(remembered(report(LOST, total(60, 50), more=7), "watch"), NOW, frozenset(), NOW)

    assert found is not None
    assert found.message == (
        "9 differences in 1,234 events of 5 accounts, $2; totals have $0.00000001 more than history. The"
        " first: producer p1: 2 events lost, seq 3–4. `spendmeter reconcile` shows each difference"
    )


def test_what_stays_so_while_both_sides_grow_is_said_once() -> None:
    run = remembered(report(LOST, total(60, 50)), "watch")
    later = remembered(report(LOST, total(1_060, 1_050)), "watch")

    assert drift_alert(later, NOW, frozenset(run.found), NOW + timedelta(days=1)) is None


def test_what_is_new_is_said_and_a_repeat_has_the_same_id() -> None:
    said = frozenset(remembered(report(LOST), "watch").found)
    for new in (total(60, 40), LOST.model_copy(update={"events": 3}), total(60, 50, "all|")):
        run = remembered(report(LOST, new), "watch")
        first, again = (drift_alert(run, NOW, said, NOW + timedelta(hours=n)) for n in range(2))
        assert first is not None
        assert again is not None
        assert first.alert_id == again.alert_id
        assert " 1 of them is new." in first.message


def test_what_comes_back_after_all_was_equal_is_another_alert() -> None:
    run = remembered(report(LOST), "watch")
    ids: set[UUID] = set()
    for equal_at in (None, NOW, NOW + timedelta(days=1)):
        found = drift_alert(run, equal_at, frozenset(), NOW)
        assert found is not None
        ids.add(found.alert_id)

    assert len(ids) == 3


def test_a_summary_is_bounded_and_of_one_line() -> None:
    forged = total(1, 2, account="day|user=" + "x\n" * 2_000)

    summary = remembered(report(forged), "watch").summary

    assert len(summary) == MAX_SUMMARY_CHARS
    assert summary.isprintable()
