"""When a gateway counts as silent: longer than it ever was, by the pauses that it makes."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from spendmeter_sinks.watch.gateways import (
    AT_LEAST,
    BACK_FOR,
    KNOWN_AFTER,
    GatewayActivity,
    Pause,
    Silence,
    silences,
)

# A Monday.
START = datetime(2026, 11, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def activity(events: Iterable[datetime]) -> GatewayActivity:
    minutes = sorted({at.replace(second=0, microsecond=0) for at in events})
    pauses = [Pause(a, b) for a, b in pairwise(minutes) if b - a > 5 * MINUTE]
    return GatewayActivity("g1", minutes[0], minutes[-1], pauses)


def each(step: timedelta, begin: datetime, end: datetime) -> Iterator[datetime]:
    while begin < end:
        yield begin
        begin += step


def office_hours(days: int) -> list[datetime]:
    """Each quarter of an hour from 9 to 18 o'clock, Monday to Friday."""
    return [
        at
        for day in range(days)
        if day % 7 < 5
        for at in each(15 * MINUTE, START + day * DAY + 9 * HOUR, START + day * DAY + 18 * HOUR)
    ]


def ever_silent(events: list[datetime], until: datetime) -> list[datetime]:
    """The moments, two hours apart, at which the events up to then make a silence."""
    return [
        now
        for now in each(2 * HOUR, START + HOUR * 9, until)
        if silences(activity(at for at in events if at <= now), now)
    ]


def test_nights_and_weekends_are_no_silence_from_the_first_day_on() -> None:
    assert ever_silent(office_hours(21), START + 21 * DAY) == []


def test_a_gateway_of_office_hours_is_silent_after_twice_its_weekend() -> None:
    events = office_hours(19)
    last = events[-1]
    weekend = 63 * HOUR + 15 * MINUTE

    assert silences(activity(events), last + 2 * weekend) == []
    assert silences(activity(events), last + 2 * weekend + MINUTE) == [Silence("g1", last, weekend)]


def test_a_gateway_that_never_rests_is_silent_after_a_quarter_of_an_hour() -> None:
    events = list(each(MINUTE, START, START + 8 * DAY))

    assert silences(activity(events), events[-1] + AT_LEAST) == []
    [found] = silences(activity(events), events[-1] + AT_LEAST + MINUTE)
    assert (found.since, found.longest, found.back_at) == (events[-1], timedelta(), None)


def test_one_event_a_day_is_silent_after_two_days() -> None:
    events = list(each(DAY, START, START + 10 * DAY))

    assert silences(activity(events), events[-1] + 2 * DAY) == []
    assert silences(activity(events), events[-1] + 2 * DAY + MINUTE) == [Silence("g1", events[-1], DAY)]


@pytest.mark.parametrize("known", [timedelta(), MINUTE, 3 * DAY, KNOWN_AFTER - MINUTE])
def test_a_new_gateway_is_never_silent(known: timedelta) -> None:
    events = [*each(MINUTE, START, START + known), START + known]

    assert silences(activity(events), START + 30 * DAY) == []


def test_one_that_was_switched_off_for_good_is_one_silence_for_as_long_as_it_is_known() -> None:
    events = list(each(MINUTE, START, START + 8 * DAY))

    found = [silences(activity(events), events[-1] + after * DAY) for after in range(1, 14)]

    assert {(one.since, one.back_at) for some in found for one in some} == {(events[-1], None)}


def test_what_is_back_is_a_silence_that_is_over_for_a_day() -> None:
    before = list(each(MINUTE, START, START + 8 * DAY))
    back = before[-1] + 5 * HOUR
    events = [*before, *each(MINUTE, back, back + 2 * DAY)]
    over = Silence("g1", before[-1], timedelta(), back)

    assert silences(activity(events), back + BACK_FOR - MINUTE) == [over]
    assert silences(activity(events), back + BACK_FOR) == []


def test_a_pause_of_more_than_two_weeks_ago_is_forgotten() -> None:
    first = list(each(MINUTE, START, START + DAY))
    rest = list(each(MINUTE, START + 3 * DAY, START + 19 * DAY))

    [found] = silences(activity([*first, *rest]), rest[-1] + HOUR)
    assert found.longest == timedelta()


def test_a_long_pause_that_has_just_ended_is_its_longest() -> None:
    """A gateway of one week in three is not silent an hour after its next."""
    first = list(each(MINUTE, START, START + 8 * DAY))
    rest = list(each(MINUTE, START + 22 * DAY, START + 23 * DAY))

    assert [one.back_at for one in silences(activity([*first, *rest]), rest[-1] + HOUR)] == []
