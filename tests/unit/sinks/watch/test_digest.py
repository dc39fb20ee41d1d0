"""When a digest is due, and how it reads."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter_sinks.watch.digest import WEEKLY_CAUGHT_UP, digest_text, periods_due
from spendmeter_sinks.watch.spend_reports import BudgetUse, DigestPeriod, NamedAmount, SpendReport

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 30, 7, tzinfo=UTC)
"""08:00 in Berlin."""


def due(which: str, now: datetime) -> list[tuple[str, ...]]:
    return [
        (one.name, *(f"{at.astimezone(BERLIN):%d.%m. %H:%M}" for at in one[1:]))
        for one in periods_due(which, now, BERLIN, 8)
    ]


def test_a_days_digest_is_due_at_its_hour_until_the_next_is() -> None:
    before = ("daily", "27.11. 00:00", "28.11. 00:00", "29.11. 00:00")
    after = ("daily", "28.11. 00:00", "29.11. 00:00", "30.11. 00:00")

    assert due("daily", MONDAY - timedelta(microseconds=1)) == [before]
    assert due("daily", MONDAY) == [after]
    assert due("daily", MONDAY + timedelta(hours=23, minutes=59)) == [after]


def test_a_weeks_digest_is_due_on_monday_and_caught_up_for_days() -> None:
    week = ("weekly", "16.11. 00:00", "23.11. 00:00", "30.11. 00:00")

    assert due("weekly", MONDAY - timedelta(microseconds=1)) == []
    assert due("weekly", MONDAY) == [week]
    assert due("weekly", MONDAY + WEEKLY_CAUGHT_UP - timedelta(microseconds=1)) == [week]
    assert due("weekly", MONDAY + WEEKLY_CAUGHT_UP) == []
    assert [name for name, *_ in due("both", MONDAY)] == ["daily", "weekly"]
    assert due("off", MONDAY) == []


def test_a_day_of_25_hours_is_one_day() -> None:
    [period] = periods_due("daily", datetime(2026, 10, 26, 8, tzinfo=UTC), BERLIN, 8)

    assert period.end - period.start == timedelta(hours=25)
    assert period.start - period.before == timedelta(hours=24)


[DAILY] = periods_due("daily", MONDAY, BERLIN, 8)
REPORT = SpendReport(
    team="t1",
    name="Research",
    spent_nanousd=from_usd("1234.567"),
    before_nanousd=from_usd("1100"),
    requests=4210,
    refused=12,
    largest={
        "key": [
            NamedAmount("ci-runner", from_usd("800")),
            NamedAmount("ann\nBudget raised", from_usd("300")),
        ],
        "model": [NamedAmount("gpt-4o", from_usd("1234.567"))],
    },
    closest=[
        BudgetUse("team-month", "", from_usd("920"), from_usd("1000")),
        BudgetUse("member-day", "user Ann", from_usd("3"), from_usd("10")),
    ],
)


def first_line(period: DigestPeriod = DAILY, **changed: object) -> str:
    return digest_text(REPORT._replace(**changed), period, BERLIN).splitlines()[0]  # type: ignore[arg-type]


def test_a_digest_says_what_was_spent_on_what_and_what_is_close_to_its_limit() -> None:
    assert digest_text(REPORT, DAILY, BERLIN).splitlines() == [
        "team Research spent $1,234.56 on Sun 29 Nov (Europe/Berlin), 12 % more than the day before ($1,100)",
        "4,210 requests, 12 refused",
        "keys: ci-runner $800, ann Budget raised $300; others $134.56",
        "models: gpt-4o $1,234.56",
        "budgets closest to their limit now: team-month 92 % ($920 of $1,000),"
        " member-day of user Ann 30 % ($3 of $10)",
    ]


@pytest.mark.parametrize(
    ("spent", "before", "said"),
    [
        ("50", "100", "50 % less than the day before ($100)"),
        ("100.5", "100", "about as much as the day before ($100)"),
        ("100", "100", "about as much as the day before ($100)"),
        ("100", "0", "and nothing the day before"),
        ("0", "2", "100 % less than the day before ($2)"),
        ("5", "-1", "and -$1 the day before"),
    ],
)
def test_what_it_is_beside_the_day_before(spent: str, before: str, said: str) -> None:
    line = first_line(spent_nanousd=from_usd(spent), before_nanousd=from_usd(before))

    assert line.partition(" (Europe/Berlin), ")[2] == said


def test_a_week_of_everything_with_next_to_nothing() -> None:
    [period] = periods_due("weekly", MONDAY, BERLIN, 8)
    bare = SpendReport("", "", NanoUsd(0), NanoUsd(1), 1, 0, {"team": [], "key": []}, [])

    assert digest_text(bare, period, BERLIN).splitlines() == [
        "everything spent $0 in the week from Mon 23 Nov (Europe/Berlin),"
        " 100 % less than the week before ($0.000000001)",
        "1 request, none refused",
    ]
