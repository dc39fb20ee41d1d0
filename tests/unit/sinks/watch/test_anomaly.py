"""When an hour counts as unusual, and how often an episode is said."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd, from_usd
from spendmeter_sinks.watch.anomaly import (
    ENDS_AFTER_HOURS,
    GROWS,
    HOURS_OF_A_WEEK,
    MAX_EPISODE_HOURS,
    AnomalyRule,
    TeamHours,
    UnusualHour,
    UnusualSpend,
    anomaly_message,
    find_unusual,
    growth_of,
    said_once,
    unusual_hour,
    unusual_hours,
)

RULE = AnomalyRule()
USD = int(from_usd("1"))
NOW = int(datetime(2026, 11, 30, 14, tzinfo=UTC).timestamp()) // 3600
"""A Monday."""


def steady(usd: int = 20, weeks: int = 9, **changed: int) -> dict[int, int]:
    """So much in each hour up to NOW; `changed`: h and the hours before NOW, and what was spent then."""
    spent = dict.fromkeys(range(NOW - weeks * HOURS_OF_A_WEEK, NOW + 1), usd * USD)
    return spent | {NOW - int(ago[1:]): usd * USD for ago, usd in changed.items()}


def is_said(spent: dict[int, int], rule: AnomalyRule = RULE) -> bool:
    return unusual_hour(spent, NOW, rule) is not None


def test_the_bounds_of_what_is_unusual() -> None:
    times = int(20 * RULE.ratio)

    assert is_said(steady(h0=times + 1))
    assert not is_said(steady(h0=times))
    assert not is_said(steady())


@pytest.mark.parametrize(("least", "is_unusual"), [("49.000000001", False), ("49", True)])
def test_less_than_the_least_amount_alarms_nobody(least: str, is_unusual: bool) -> None:
    assert is_said(steady(1, h0=49), RULE._replace(least_nanousd=from_usd(least))) is is_unusual


def test_nobody_is_alarmed_before_it_is_known_what_is_usual() -> None:
    assert not is_said({NOW: 10_000 * USD})
    assert not is_said({})
    assert is_said(steady(weeks=RULE.least_weeks, h0=500))
    short = steady(weeks=RULE.least_weeks, h0=500)
    del short[min(short)]
    assert not is_said(short)


def test_what_is_as_noisy_as_always_is_usual() -> None:
    noisy = {hour: (5 + 60 * (hour % 3 == 0)) * USD for hour in steady()}

    assert not is_said(noisy | {NOW: 70 * USD})
    assert is_said(noisy | {NOW: 700 * USD})


def test_who_spends_in_bursts_is_compared_with_their_bursts_and_one_anomaly_hides_no_other() -> None:
    one = steady(h240=900)

    assert is_said(one | {NOW: 1_000 * USD})
    assert not is_said(one | {NOW - 30 * 24 + 2: 900 * USD, NOW: 1_000 * USD})


def test_growth_is_no_anomaly_and_a_decline_lowers_no_bound() -> None:
    growing = {hour: int(USD * 20 * 1.2 ** ((hour - NOW) / HOURS_OF_A_WEEK)) for hour in steady()}
    falling = {hour: int(USD * 20 * 0.8 ** ((hour - NOW) / HOURS_OF_A_WEEK)) for hour in steady()}

    assert 1.5 < growth_of(growing, NOW, RULE) <= 2
    assert growth_of(falling, NOW, RULE) == growth_of({}, NOW, RULE) == 1
    assert not is_said(growing | {NOW: 45 * USD})
    assert is_said(steady(h0=51))


def lasting(hours: int, usd: int = 500) -> dict[int, int]:
    """Unusual for so many hours up to NOW."""
    return steady() | {NOW - ago: usd * USD for ago in range(hours)}


def said_in(spent: dict[int, int], hours: int) -> list[UnusualHour]:
    return said_once(unusual_hours(spent, range(NOW - hours + 1, NOW + 1), RULE))


def test_an_episode_is_said_when_it_begins_and_again_each_day() -> None:
    assert [one.stage for one in said_in(lasting(1), 1)] == ["0.0"]
    assert [one.stage for one in said_in(lasting(24), 24)] == ["0.0"]
    assert [one.stage for one in said_in(lasting(30), 30)] == ["0.0", "1.0"]
    assert {one.since for one in said_in(lasting(30), 30)} == {NOW - 29}


def test_a_later_run_says_the_same_of_an_episode() -> None:
    whole = said_in(lasting(30), 30)

    assert said_in(lasting(30), 6) == [whole[1]._replace(hour=NOW - 5)]


@pytest.mark.parametrize(("usual", "episodes"), [(ENDS_AFTER_HOURS - 1, 1), (ENDS_AFTER_HOURS, 2)])
def test_an_episode_ends_with_usual_hours(usual: int, episodes: int) -> None:
    spent = steady() | {NOW: 500 * USD, NOW - usual - 1: 500 * USD}

    assert len(said_in(spent, usual + 2)) == episodes


def test_what_grows_on_is_said_again() -> None:
    spent = lasting(4, 100) | {NOW: 100 * GROWS * USD}

    assert [one.stage for one in said_in(spent, 4)] == ["0.0", "0.1"]
    assert [one.stage for one in said_in(spent | {NOW: 100 * GROWS * USD - 1}, 4)] == ["0.0"]


def test_what_has_lasted_for_a_week_is_said_no_more() -> None:
    rule = RULE._replace(of_largest=0)
    assert unusual_hour(lasting(MAX_EPISODE_HOURS), NOW, rule) is not None
    assert unusual_hour(lasting(MAX_EPISODE_HOURS + 1), NOW, rule) is None


def test_everything_is_said_only_where_no_team_explains_it() -> None:
    calm, wild = TeamHours("calm", "", steady()), TeamHours("wild", "", steady(h0=500))
    whole = TeamHours("", "", steady(40, h0=520))

    assert [one.team for one in find_unusual([calm, wild, whole], [NOW], RULE)] == ["wild"]
    assert [one.team for one in find_unusual([calm, whole], [NOW], RULE)] == [""]


def test_the_message_says_who_how_much_when_and_what_is_usual() -> None:
    hour = UnusualHour(NOW, NanoUsd(75_500_000_000), NanoUsd(5 * USD), NOW, "0.0")
    one, berlin = UnusualSpend("wild", "The\nWild", hour), ZoneInfo("Europe/Berlin")

    assert anomaly_message(one, ["key agent $70", "model o3 $71"], berlin) == (
        "team The Wild spent $75.50 from Mon 30 Nov 15:00 CET to 16:00, where $5 is usual;"
        " most of it: key agent $70, model o3 $71"
    )
    later = one._replace(team="", hour=hour._replace(since=NOW - 3, usual_nanousd=NanoUsd(0)))
    assert anomaly_message(later, [], berlin) == (
        "everything spent $75.50 from Mon 30 Nov 15:00 CET to 16:00, where nothing is usual;"
        " this began Mon 30 Nov 12:00 CET"
    )


@given(st.dictionaries(st.integers(NOW - 2_000, NOW), st.integers(-(10**12), 10**15), max_size=60))
def test_whatever_was_spent_what_is_said_is_of_the_hours_in_question(spent: dict[int, int]) -> None:
    hours = range(NOW - 5, NOW + 1)

    for one in unusual_hours(spent, hours, RULE):
        assert one.hour in hours
        assert one.since <= one.hour
        assert spent[one.hour] == one.spent_nanousd >= RULE.least_nanousd
