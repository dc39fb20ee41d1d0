"""The forecast, promise by promise: from the estimator to what the judge tells."""

from datetime import timedelta

import pytest

from spendmeter.contract.alert import AlertKind
from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.total import Total
from spendmeter.domain.matching import BudgetBook
from spendmeter.domain.window import Window
from spendmeter.values.times import EPOCH
from spendmeter_stream.judge.emission import COALESCE_FOR
from spendmeter_stream.judge.forecast import (
    ENDLESS,
    MIN_WATCHED_SHARE,
    burnt,
    exhausted_at,
    worth_an_alert,
)
from spendmeter_stream.judge.judge import Evaluation, Judge
from spendmeter_stream.state import AccountWindow, Burn
from tests.builders import NOON, budget

DAY = Window(NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
BEGIN = DAY.start + 8 * HOUR
PER_MINUTE = 1_000
ACCOUNT = "per-key|key=k1"
LIMIT = 600_000


def steady(minutes: int, window: Window = DAY, every: int = 1) -> Burn:
    """Spend of PER_MINUTE, from BEGIN on."""
    burn = burnt(None, 0, window, BEGIN)
    for minute in range(every, minutes + 1, every):
        burn = burnt(burn, PER_MINUTE * every, window, BEGIN + minute * MINUTE)
    return burn


# The estimator.


@pytest.mark.parametrize("every", [1, 7, 120])
def test_a_steady_spend_is_forecast_to_the_second_however_often_it_is_judged(every: int) -> None:
    now = BEGIN + 840 * MINUTE
    at = exhausted_at(steady(840, every=every), NanoUsd(60 * PER_MINUTE), DAY, now)
    assert at is not None
    assert abs(at - (now + HOUR)) <= timedelta(seconds=1)


def test_what_was_spent_before_the_account_was_first_judged_is_no_rate() -> None:
    burn = burnt(None, 10**12, DAY, BEGIN)
    assert exhausted_at(burn, NanoUsd(1), DAY, BEGIN + 2 * HOUR) is None


def test_a_rate_falls_while_nothing_is_spent() -> None:
    burn, left = steady(120), NanoUsd(60 * PER_MINUTE)
    soon, later = (exhausted_at(burn, left, DAY, BEGIN + h * HOUR) for h in (2, 4))
    assert soon is not None
    assert later is not None
    assert later - (BEGIN + 4 * HOUR) > soon - (BEGIN + 2 * HOUR)


def test_what_is_taken_back_leaves_no_negative_rate() -> None:
    burn = burnt(steady(120), -(10**12), DAY, BEGIN + 121 * MINUTE)
    assert burn.decayed_nanousd == 0
    assert exhausted_at(burn, NanoUsd(1), DAY, BEGIN + 121 * MINUTE) is None


def test_a_clock_that_runs_back_loses_no_spend() -> None:
    burn = steady(120)
    back = burnt(burn, 500, DAY, BEGIN)
    assert back == burn._replace(decayed_nanousd=burn.decayed_nanousd + 500)


def test_no_forecast_before_enough_was_seen() -> None:
    seen = DAY.end - DAY.start if DAY.end else ENDLESS
    enough = BEGIN + seen * MIN_WATCHED_SHARE
    burn, left = steady(30), NanoUsd(60 * PER_MINUTE)
    assert exhausted_at(burn, left, DAY, enough - timedelta(microseconds=1)) is None
    assert exhausted_at(burn, left, DAY, enough) is not None


@pytest.mark.parametrize("left", [0, -1])
def test_no_forecast_once_the_limit_is_spent(left: int) -> None:
    assert exhausted_at(steady(120), NanoUsd(left), DAY, BEGIN + 2 * HOUR) is None


@pytest.mark.parametrize(("minutes", "is_forecast"), [(839, True), (841, False)])
def test_no_forecast_past_the_end_of_the_window(minutes: int, is_forecast: bool) -> None:
    """At 10:00 the day has 840 minutes left."""
    at = exhausted_at(steady(120), NanoUsd(minutes * PER_MINUTE), DAY, BEGIN + 2 * HOUR)
    assert (at is not None) is is_forecast


@pytest.mark.parametrize(("days", "is_forecast"), [(29, True), (31, False)])
def test_without_an_end_no_forecast_further_ahead_than_thirty_days(days: int, is_forecast: bool) -> None:
    lifetime = Window(EPOCH, None)
    burn = steady(4 * 1440, lifetime, every=60)
    at = exhausted_at(burn, NanoUsd(days * 1440 * PER_MINUTE), lifetime, BEGIN + timedelta(days=4))
    assert (at is not None) is is_forecast


@pytest.mark.parametrize(("spent", "is_worth"), [(LIMIT // 4 - 1, False), (LIMIT // 4, True)])
def test_an_alert_needs_a_quarter_of_the_limit_spent(spent: int, is_worth: bool) -> None:
    now = BEGIN + 5 * HOUR
    assert worth_an_alert(steady(300), NanoUsd(spent), NanoUsd(LIMIT), DAY, now) is is_worth


@pytest.mark.parametrize(("late", "is_worth"), [(timedelta(microseconds=-1), False), (timedelta(0), True)])
def test_an_alert_needs_an_eighth_of_the_window_watched(late: timedelta, is_worth: bool) -> None:
    now = BEGIN + 3 * HOUR + late
    assert worth_an_alert(steady(120), NanoUsd(LIMIT), NanoUsd(LIMIT), DAY, now) is is_worth


# What the judge tells.


def total(spent: int, last: int, source: int | str = 0) -> Total:
    fields = {
        "account": ACCOUNT,
        "window_start": DAY.start,
        "source_partition": source,
        "spent_nanousd": spent,
        "events": 1,
        "first_offset": 0,
        "last_offset": last,
    }
    return Total.model_validate(fields)


def rules(**fields: object) -> BudgetBook:
    made: Budget = budget(**{"limit_nanousd": LIMIT, "warn_at": (), **fields})
    return BudgetBook([made])


def spend(judge: Judge, minutes: range, book: BudgetBook) -> list[Evaluation]:
    """PER_MINUTE, judged every minute."""
    said = []
    for minute in minutes:
        judge.apply([total(PER_MINUTE * (minute + 1), minute)])
        said.append(judge.judge(book, BEGIN + minute * MINUTE))
    return said


def told(said: list[Evaluation]) -> list[str]:
    return [alert.kind.value for one in said for alert in one.alerts]


def test_a_signal_says_when_the_limit_will_have_been_spent() -> None:
    signal = spend(Judge(), range(61), rules())[-1].signals[0]
    assert signal.forecast_exhausted_at == BEGIN + 599 * MINUTE


def test_a_signal_carries_no_forecast_before_the_watch_is_long_enough() -> None:
    said = spend(Judge(), range(60), rules())
    assert {signal.forecast_exhausted_at for one in said for signal in one.signals} == {None}


def test_a_forecast_within_the_window_is_told_once() -> None:
    said = spend(Judge(), range(400), rules())
    assert told(said) == ["forecast"]
    alert = next(alert for one in said for alert in one.alerts)
    assert alert.message == (
        "per-key: key k1 will have spent its budget by 2026-11-22 17:59 UTC"
        " if it goes on like this (0.000181 of 0.0006 USD)"
    )


def test_a_forecast_is_told_once_across_a_restart_and_its_rate_goes_on() -> None:
    judge, book = Judge(), rules()
    said = spend(judge, range(200), book)
    kept = {entry.key: entry.value for one in said for entry in one.entries if entry.value is not None}
    again = Judge.restore(kept.items())
    again.apply([total(PER_MINUTE * (n + 1), n) for n in range(200)])
    where = AccountWindow(ACCOUNT, DAY.start)
    assert again.accounts[where].burn == judge.accounts[where].burn
    assert told(spend(again, range(200, 400), book)) == []
    spend(judge, range(200, 400), book)
    assert again.accounts[where] == judge.accounts[where]


def test_a_forecast_that_a_crash_kept_from_being_remembered_has_the_same_id() -> None:
    alerts = [[a for one in spend(Judge(), range(n, 400), rules()) for a in one.alerts] for n in (0, 1)]
    assert [a.alert_id for a in alerts[0]] == [a.alert_id for a in alerts[1]]
    assert len(alerts[0]) == 1


def test_an_account_with_enough_left_to_the_end_is_not_told() -> None:
    assert told(spend(Judge(), range(400), rules(limit_nanousd=2 * LIMIT))) == []


def test_a_raise_moves_the_forecast_and_is_a_new_question() -> None:
    judge = Judge()
    spend(judge, range(400), rules())
    judge.budget_changed("per-key")
    raised = judge.judge(rules(limit_nanousd=LIMIT + 60 * PER_MINUTE, revision=2), BEGIN + 399 * MINUTE)
    assert raised.signals[0].forecast_exhausted_at == BEGIN + 659 * MINUTE
    assert [alert.kind for alert in raised.alerts] == [AlertKind.FORECAST]


def test_what_history_adds_moves_what_is_left_and_not_the_rate() -> None:
    judge = Judge()
    spend(judge, range(121), rules())
    judge.apply([total(60 * PER_MINUTE, 0, "history")])
    signal = judge.judge(rules(), BEGIN + 120 * MINUTE).signals[0]
    assert signal.forecast_exhausted_at == BEGIN + 539 * MINUTE


def test_a_source_that_counts_anew_has_spent_all_that_it_says() -> None:
    """As after a change of what the budget counts: its tally begins at another offset."""
    judge = Judge()
    spend(judge, range(121), rules())
    where = AccountWindow(ACCOUNT, DAY.start)
    before = judge.accounts[where].burn
    judge.apply([total(5_000, 200).model_copy(update={"first_offset": 150})])
    judge.judge(rules(), BEGIN + 120 * MINUTE)
    after = judge.accounts[where].burn
    assert before is not None
    assert after == before._replace(decayed_nanousd=before.decayed_nanousd + 5_000)


def test_a_forecast_alone_is_no_reason_for_a_signal() -> None:
    judge, book = Judge(), rules()
    spend(judge, range(121), book)
    assert judge.judge(book, BEGIN + 120 * MINUTE + 100 * COALESCE_FOR) == Evaluation()


# Crossings are counted.


def correct(judge: Judge, book: BudgetBook, *spents: int) -> list[str]:
    """The account's spend moves up and down as events and corrections say, within one revision."""
    said = []
    for spent in spents:
        last = max((c.last_offset for a in judge.accounts.values() for c in a.components.values()), default=0)
        judge.apply([total(spent, last + 1)])
        said.append(judge.judge(book, NOON))
    return told(said)


def test_each_crossing_of_the_limit_is_told_once_within_one_revision() -> None:
    up_and_down = ["exceeded", "recovered"] * 2
    assert correct(Judge(), rules(), LIMIT, LIMIT + 1, LIMIT - 1, LIMIT, LIMIT - 1, LIMIT - 2) == up_and_down


def test_crossings_have_ids_of_their_own_across_restarts() -> None:
    judge, book, ids = Judge(), rules(), []
    for n, spent in enumerate([LIMIT, 0, LIMIT, 0]):
        judge.apply([total(spent, n)])
        said = judge.judge(book, NOON)
        ids += [alert.alert_id for alert in said.alerts]
        judge = Judge.restore((e.key, e.value) for e in said.entries if e.value is not None)
        assert judge.judge(book, NOON).alerts == []
    assert len(ids) == len(set(ids)) == 4


def test_what_comes_late_to_a_window_that_is_over_does_not_exceed_it_again() -> None:
    judge, book, tomorrow = Judge(), rules(), DAY.start + timedelta(days=1)
    judge.apply([total(LIMIT, 0)])
    assert told([judge.judge(book, NOON), judge.judge(book, tomorrow)]) == ["exceeded", "recovered"]
    judge.apply([total(LIMIT + 1, 1)])
    assert told([judge.judge(book, tomorrow + n * MINUTE) for n in range(3)]) == []
