"""The judge, promise by promise."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.signal import State
from spendmeter.contract.total import Total
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import KEEP_CLOSED_WINDOWS
from spendmeter_stream.judge.emission import COALESCE_FOR
from spendmeter_stream.judge.judge import Evaluation, Judge
from spendmeter_stream.judge.signals import doubted_alert, unpriced_alert
from spendmeter_stream.state import ChangelogEntry
from tests.builders import NOON, budget, usage

ACCOUNT = "per-key|key=k1"
MIDNIGHT = NOON.replace(hour=0)
TOMORROW = MIDNIGHT + timedelta(days=1)
LIMIT = 1_000_000


def total(spent: int, last: int, **fields: Any) -> Total:
    """A total of key `k1` today, from partition 0."""
    defaults = {
        "account": ACCOUNT,
        "window_start": MIDNIGHT,
        "source_partition": 0,
        "spent_nanousd": spent,
        "events": 1,
        "first_offset": 0,
        "last_offset": last,
        "last_event_id": UUID(int=last + 1),
    }
    return Total.model_validate({**defaults, **fields})


def book(**fields: Any) -> BudgetBook:
    return BudgetBook([budget(**{"limit_nanousd": LIMIT, **fields})])


def say(judge: Judge, rules: BudgetBook, *totals: Total, at: datetime = NOON) -> Evaluation:
    judge.apply(totals)
    return judge.judge(rules, at)


def kinds(judgement: Evaluation) -> list[str]:
    return [alert.kind.value for alert in judgement.alerts]


def restored(*judgements: Evaluation) -> Judge:
    kept: dict[bytes, bytes | None] = {}
    for judgement in judgements:
        kept.update(judgement.entries)
    return Judge.restore((k, v) for k, v in kept.items() if v is not None)


# Merging.


def test_the_partitions_of_an_account_add_up() -> None:
    signal = say(Judge(), book(), total(5, 3), total(7, 9, source_partition=1)).signals[0]
    assert (signal.spent_nanousd, signal.watermark, signal.version) == (12, {0: 3, 1: 9}, 14)


def test_the_total_with_the_highest_offset_stays() -> None:
    judge = Judge()
    say(judge, book(), total(7, 9))
    assert say(judge, book(), total(5, 3)).signals == []
    assert judge.accounts[next(iter(judge.accounts))].components[0].spent_nanousd == 7


def test_a_total_told_again_in_another_shape_takes_the_place_of_the_first() -> None:
    judge, rules = Judge(), book()
    shape = rules.shape_of(next(iter(rules)))
    whole = of_history(2, shape, account="per-key")
    # The worker before knew the budget as it was, and stopped before it had stored anything.
    assert say(judge, rules, total(5, 3, shape="0ld"), whole).signals[0].opening is True
    signal = say(judge, rules, total(5, 3, shape=shape)).signals[0]
    assert (signal.spent_nanousd, signal.opening) == (5, False)


def test_at_the_same_offset_a_total_that_was_opened_earlier_takes_nothing_back() -> None:
    judge, rules = Judge(), book()
    shape = rules.shape_of(next(iter(rules)))
    say(judge, rules, total(2, 3, shape=shape, first_offset=2))
    assert say(judge, rules, total(5, 3, shape="0ld", first_offset=1)) == Evaluation()
    assert say(judge, rules, total(2, 3, shape=shape, first_offset=2)) == Evaluation()


def of_history(revision: int, shape: str, **fields: Any) -> Total:
    """A total of history, taken of the empty log."""
    nothing = {"last_event_id": None, "before": {0: 0}, "shape": shape, "revision": revision}
    return total(fields.pop("spent", 0), 0, **{"source_partition": "history", **nothing, **fields})


def test_a_word_of_history_that_was_late_takes_nothing_back() -> None:
    judge, rules = Judge(), book()
    shape = rules.shape_of(next(iter(rules)))
    told = [of_history(2, shape, spent=5), of_history(2, shape, account="per-key")]
    assert say(judge, rules, *told).signals[0].opening is False
    late = [of_history(1, "0ld", spent=3), of_history(1, "0ld", account="per-key")]
    assert say(judge, rules, *late) == Evaluation()


def test_what_history_adds_is_no_part_of_the_watermark() -> None:
    signal = say(Judge(), book(), total(5, 3), total(7, 9, source_partition="history")).signals[0]
    assert (signal.spent_nanousd, signal.watermark) == (12, {0: 3})


def test_a_signal_names_what_it_rests_on() -> None:
    signal = say(Judge(), book(revision=3), total(5, 3)).signals[0]
    assert (signal.budget_id, signal.account, signal.subject) == ("per-key", ACCOUNT, {"key": "k1"})
    assert (signal.window_start, signal.window_end, signal.revision) == (MIDNIGHT, TOMORROW, 3)
    assert signal.cause_event_id == UUID(int=4)


# Boundaries.


@pytest.mark.parametrize(
    ("spent", "state", "threshold"),
    [
        (LIMIT * 8 // 10 - 1, State.OK, None),
        (LIMIT * 8 // 10, State.WARNING, 0.8),
        (LIMIT - 1, State.WARNING, 0.8),
        (LIMIT, State.EXCEEDED, 1.0),
    ],
)
def test_a_state_begins_at_its_share_of_the_limit(spent: int, state: State, threshold: float | None) -> None:
    signal = say(Judge(), book(), total(spent, 0)).signals[0]
    assert (signal.state, signal.threshold) == (state, threshold)


@pytest.mark.parametrize(("spent", "told"), [(2, []), (3, ["threshold"])])
def test_a_threshold_that_is_no_whole_nano_dollar_fires_once_it_is_reached(
    spent: int, told: list[str]
) -> None:
    """Two thirds of 4 nano-USD lie between 2 and 3."""
    assert kinds(say(Judge(), book(limit_nanousd=4, warn_at=(0.666667,)), total(spent, 0))) == told


# Alerts.


def test_each_threshold_fires_once_per_window() -> None:
    judge, rules = Judge(), book(warn_at=(0.5, 0.8))
    assert kinds(say(judge, rules, total(LIMIT // 2, 0))) == ["threshold"]
    assert kinds(say(judge, rules, total(LIMIT // 2 + 1, 1))) == []
    assert kinds(say(judge, rules, total(LIMIT * 8 // 10, 2))) == ["threshold"]
    assert kinds(say(judge, rules, total(LIMIT // 2, 0, window_start=TOMORROW), at=TOMORROW)) == ["threshold"]


def test_a_threshold_does_not_fire_again_after_a_restart() -> None:
    first = say(Judge(), book(), total(LIMIT * 8 // 10, 0))
    again = restored(first)
    judgement = say(again, book(), total(LIMIT * 8 // 10 + 1, 1))
    assert (len(judgement.signals), kinds(judgement)) == (1, [])


def test_an_alert_that_a_crash_kept_from_being_remembered_has_the_same_id() -> None:
    one = say(Judge(), book(), total(LIMIT, 0)).alerts
    other = say(Judge(), book(), total(LIMIT, 0), at=NOON + timedelta(seconds=5)).alerts
    assert [a.alert_id for a in one] == [a.alert_id for a in other]


def test_reaching_the_limit_tells_the_thresholds_below_it_too() -> None:
    assert kinds(say(Judge(), book(), total(LIMIT, 0))) == ["threshold", "exceeded"]


def test_a_raise_tells_the_recovery_and_the_next_crossing() -> None:
    judge = Judge()
    say(judge, book(), total(LIMIT, 0))
    judge.budget_changed("per-key")
    raised = book(limit_nanousd=LIMIT + 1, revision=2)
    recovered = judge.judge(raised, NOON)
    assert (kinds(recovered), recovered.signals[0].state) == (["recovered"], State.WARNING)
    assert kinds(say(judge, raised, total(LIMIT + 1, 1))) == ["exceeded"]


def test_a_recovery_is_told_after_a_restart() -> None:
    judge = restored(say(Judge(), book(), total(LIMIT, 0)))
    assert kinds(judge.judge(book(limit_nanousd=LIMIT + 1, revision=2), NOON)) == ["recovered"]


def test_only_a_budget_that_blocks_says_that_requests_are_refused() -> None:
    for fields, refused in (({}, True), ({"action": "warn"}, False), ({"paused": True}, False)):
        alert = say(Judge(), book(**fields), total(LIMIT, 0)).alerts[-1]
        assert alert.kind is AlertKind.EXCEEDED
        assert ("refused" in alert.message) is refused


def test_an_unpriced_model_is_told_once_a_day() -> None:
    at = [unpriced_alert("m", UUID(int=n), NOON + timedelta(hours=6 * n)).alert_id for n in range(3)]
    assert at[0] == at[1] != at[2]


def test_doubt_of_a_model_is_told_once_a_day_and_reason() -> None:
    def at(doubt: str, hours: int) -> UUID:
        event = usage(hours + 1, 5, model="m", cost_source="tokens", cost_doubt=doubt)
        return doubted_alert(event, NOON + timedelta(hours=hours)).alert_id

    assert at("zero", 0) == at("zero", 6) != at("zero", 12)
    assert at("zero", 0) != at("below_tokens", 0)


HOUR = timedelta(hours=1)


def raised_until(*ends: datetime) -> BudgetBook:
    return book(revision=2, raises=[{"amount_nanousd": 10, "until": end} for end in ends])


def test_a_raise_that_ends_lowers_the_limit_by_itself() -> None:
    judge, rules = Judge(), raised_until(NOON + HOUR, NOON + 2 * HOUR)
    say(judge, book(), total(LIMIT, 0))
    judge.budget_changed("per-key")
    assert kinds(judge.judge(rules, NOON)) == ["recovered"]
    assert kinds(say(judge, rules, total(LIMIT + 5, 1))) == []

    assert judge.judge(rules, NOON + HOUR - timedelta(microseconds=1)) == Evaluation()
    first = judge.judge(rules, NOON + HOUR)
    assert [s.limit_nanousd for s in first.signals] == [LIMIT + 10]
    second = judge.judge(rules, NOON + 2 * HOUR)
    assert (kinds(second), [s.limit_nanousd for s in second.signals]) == (["exceeded"], [LIMIT])
    assert judge.judge(rules, NOON + 3 * HOUR) == Evaluation()


def test_a_raise_ends_after_a_restart_too() -> None:
    rules = raised_until(NOON + HOUR)
    judge = restored(say(Judge(), rules, total(LIMIT, 0)))
    assert [s.limit_nanousd for s in judge.judge(rules, NOON).signals] == [LIMIT + 10]

    assert kinds(judge.judge(rules, NOON + HOUR)) == ["exceeded"]


def test_the_end_of_its_window_tells_the_recovery_once() -> None:
    judge, rules = Judge(), book()
    exceeded = say(judge, rules, total(LIMIT, 0))
    assert judge.judge(rules, TOMORROW - timedelta(microseconds=1)) == Evaluation()

    ended = judge.judge(rules, TOMORROW)

    assert kinds(ended) == ["recovered"]
    signal = ended.alerts[0].signal
    assert signal is not None
    assert (signal.window_start, signal.spent_nanousd, signal.state) == (TOMORROW, 0, State.OK)
    assert "key k1 has a new window (0 of 0.001 USD)" in ended.alerts[0].message
    assert ended.signals == []
    assert judge.judge(rules, TOMORROW + HOUR) == Evaluation()
    again = restored(exceeded, ended)
    assert kinds(again.judge(rules, TOMORROW + HOUR)) == []


def test_a_recovery_that_a_crash_kept_from_being_remembered_has_the_same_id() -> None:
    exceeded = say(Judge(), book(), total(LIMIT, 0))
    one, other = (
        restored(exceeded).judge(book(), TOMORROW + late).alerts for late in (timedelta(0), timedelta(days=2))
    )
    assert [a.alert_id for a in one] == [a.alert_id for a in other]
    assert len(one) == 1


def test_a_reset_tells_the_recovery_once() -> None:
    judge = Judge()
    say(judge, book(), total(LIMIT, 0))
    judge.budget_changed("per-key")
    reset = book(reset_at=NOON, revision=2)

    assert kinds(judge.judge(reset, NOON)) == ["recovered"]
    judge.budget_changed("per-key")
    assert kinds(judge.judge(reset, NOON + HOUR)) == []


def test_a_shorter_period_tells_the_recovery_of_the_longer_window() -> None:
    judge = Judge()
    say(judge, book(), total(LIMIT, 0))
    judge.budget_changed("per-key")

    assert kinds(judge.judge(book(period="hour", revision=2), NOON)) == ["recovered"]


def test_an_account_that_is_exceeded_again_has_not_recovered() -> None:
    judge, rules = Judge(), book(warn_at=())
    say(judge, rules, total(LIMIT, 0))

    said = say(judge, rules, total(LIMIT, 1, window_start=TOMORROW), at=TOMORROW)

    assert kinds(said) == ["exceeded"]
    assert kinds(judge.judge(rules, TOMORROW + HOUR)) == []


def test_an_account_that_was_never_exceeded_does_not_recover() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(LIMIT - 1, 0))

    assert judge.judge(rules, TOMORROW) == Evaluation()


def test_no_more_dues_are_kept_than_there_are_accounts() -> None:
    judge = Judge()
    for n in range(50):
        rules = book(revision=n + 1, raises=[{"amount_nanousd": 1, "until": NOON + (50 - n) * HOUR}])
        judge.budget_changed("per-key")
        say(judge, rules, total(n, n))
        assert len(judge._timers) == 1


# What is told when.


def test_far_from_the_limit_a_change_waits_but_no_longer_than_its_time() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 0))
    assert say(judge, rules, total(2, 1)).signals == []
    almost = NOON + COALESCE_FOR - timedelta(microseconds=1)
    assert judge.judge(rules, almost).signals == []
    assert [s.spent_nanousd for s in judge.judge(rules, NOON + COALESCE_FOR).signals] == [2]
    assert judge.judge(rules, NOON + 3 * COALESCE_FOR).signals == []


@pytest.mark.parametrize(("moved", "signals"), [(LIMIT // 100 - 1, 0), (LIMIT // 100, 1)])
def test_a_share_of_the_limit_does_not_wait(moved: int, signals: int) -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 0))
    assert len(say(judge, rules, total(1 + moved, 1)).signals) == signals


@pytest.mark.parametrize(("spent", "signals"), [(LIMIT * 8 // 10 - 1, 0), (LIMIT * 8 // 10, 1)])
def test_close_to_the_limit_every_change_is_told(spent: int, signals: int) -> None:
    judge, rules = Judge(), book(warn_at=())
    say(judge, rules, total(spent - 1, 0))
    assert len(say(judge, rules, total(spent, 1)).signals) == signals


def test_a_changed_limit_is_told_at_once() -> None:
    judge = Judge()
    say(judge, book(), total(1, 0))
    judge.budget_changed("per-key")
    changed = judge.judge(book(limit_nanousd=2, revision=2), NOON)
    assert [(s.limit_nanousd, s.revision) for s in changed.signals] == [(2, 2)]


def test_a_restored_judge_tells_every_open_window_again() -> None:
    judge = restored(say(Judge(), book(), total(1, 0)))
    assert [s.spent_nanousd for s in judge.judge(book(), NOON).signals] == [1]


def test_a_late_total_does_not_take_an_account_back_to_an_earlier_window() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 5, window_start=TOMORROW), at=TOMORROW)
    assert say(judge, rules, total(1, 6), at=TOMORROW).signals == []


def test_a_crossing_that_a_late_total_makes_is_told() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 5, window_start=TOMORROW), at=TOMORROW)
    late = say(judge, rules, total(LIMIT, 6), at=TOMORROW)
    assert (late.signals, kinds(late)) == ([], ["threshold", "exceeded"])
    assert len(late.entries) == 1


def test_a_window_that_has_ended_is_not_judged_by_a_limit_that_was_lowered_since() -> None:
    judge = restored(say(Judge(), book(), total(5, 0)))
    assert judge.judge(book(limit_nanousd=4, revision=2), TOMORROW) == Evaluation()
    judge.budget_changed("per-key")
    assert judge.judge(book(limit_nanousd=3, revision=3), TOMORROW) == Evaluation()


def test_a_longer_period_takes_over_though_its_window_began_earlier() -> None:
    judge = Judge()
    say(judge, book(), total(1, 0))
    weekly = book(period="week", revision=2)
    monday = MIDNIGHT - timedelta(days=6)
    assert [s.window_start for s in say(judge, weekly, total(2, 1, window_start=monday)).signals] == [monday]


def test_totals_of_a_budget_that_is_not_read_yet_are_judged_once_it_is() -> None:
    judge, rules = Judge(), BudgetBook()
    assert say(judge, rules, total(LIMIT, 0)).signals == []
    judge.budget_changed("per-key")
    assert kinds(judge.judge(book(), NOON)) == ["threshold", "exceeded"]


def test_a_removed_budget_withdraws_its_signals() -> None:
    judge = Judge()
    say(judge, book(), total(1, 0))
    judge.budget_changed("per-key")
    assert judge.judge(BudgetBook(), NOON).withdrawn == [ACCOUNT]


# Expiry.


def test_a_window_is_forgotten_after_its_time_and_not_before() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 0))
    end = TOMORROW + KEEP_CLOSED_WINDOWS
    assert judge.expire(rules, end - timedelta(microseconds=1)) == Evaluation()
    gone = judge.expire(rules, end)
    assert [entry.value for entry in gone.entries] == [None]
    assert (gone.withdrawn, judge.accounts) == ([ACCOUNT], {})


def test_a_restored_judge_withdraws_what_the_one_before_it_told() -> None:
    judge = restored(say(Judge(), book(), total(1, 0)))
    assert judge.expire(BudgetBook(), NOON).withdrawn == [ACCOUNT]


def test_an_earlier_window_goes_without_the_signal_of_the_later() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 0))
    say(judge, rules, total(1, 1, window_start=TOMORROW + timedelta(days=7)), at=TOMORROW + timedelta(days=7))
    gone = judge.expire(rules, TOMORROW + KEEP_CLOSED_WINDOWS)
    assert (len(gone.entries), gone.withdrawn) == (1, [])


def test_what_expires_before_it_was_judged_is_simply_gone() -> None:
    judge = Judge()
    judge.apply([total(1, 0)])
    judge.expire(BudgetBook(), NOON)
    assert judge.judge(book(), NOON) == Evaluation()


def test_entries_are_written_for_what_was_taken_even_where_nothing_is_told() -> None:
    judge, rules = Judge(), book()
    say(judge, rules, total(1, 0))
    quiet = say(judge, rules, total(2, 1))
    assert (quiet.signals, [type(e) for e in quiet.entries]) == ([], [ChangelogEntry])


def test_what_a_restart_judges_again_is_judged_some_at_a_time_and_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spendmeter_stream.judge.judge.MAX_AGAIN", 2)
    accounts = [f"per-key|key=k{n}" for n in range(5)]
    judge = restored(say(Judge(), book(), *(total(1, n, account=a) for n, a in enumerate(accounts))))
    told = [[signal.account for signal in judge.judge(book(), NOON).signals] for _ in range(4)]
    assert [len(some) for some in told] == [2, 2, 1, 0]
    assert sorted(account for some in told for account in some) == accounts


def test_what_is_spent_meanwhile_does_not_wait_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spendmeter_stream.judge.judge.MAX_AGAIN", 1)
    accounts = [f"per-key|key=k{n}" for n in range(3)]
    judge = restored(say(Judge(), book(), *(total(1, n, account=a) for n, a in enumerate(accounts))))
    first = say(judge, book(), total(2, 9, account=accounts[2]))
    assert [(s.account, s.spent_nanousd) for s in first.signals] == [(accounts[2], 2), (accounts[0], 1)]
    assert [s.account for s in judge.judge(book(), NOON).signals] == [accounts[1]]
    assert judge.judge(book(), NOON) == Evaluation()
