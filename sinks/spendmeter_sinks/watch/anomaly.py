"""Unusual spend: an hour of a team, and of everything, beside the same hour of the weeks before.

The rule is pure. `python -m bench.anomaly` measures how often it is wrong, and what it finds
(docs/decisions/0044).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import NanoUsd, from_float_usd, from_sum_usd, from_usd, to_usd
from spendmeter.history.names import name_of
from spendmeter.history.spenders import Spender, SpendSpan, spend_by
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import Dimension
from spendmeter.values.times import EPOCH
from spendmeter_sinks.alerts.message import local_time, usd
from spendmeter_sinks.watch.check import finding_of
from spendmeter_sinks.watch.settings import WatchSettings

HOURS_OF_A_WEEK, HOURS_OF_A_DAY = 168, 24
NEIGHBOURS = (-1, 0, 1)
"""Hours beside the same hour: work begins earlier one week and later another, and clocks change."""
ENDS_AFTER_HOURS = 6
"""So many usual hours in a row end an episode."""
MAX_EPISODE_HOURS = HOURS_OF_A_WEEK
"""What has been said for so long is not said again."""
NEAR = range(-3, 4)
"""Hours near a time of the day."""
MAX_GROWTH = 2.0
"""More than that in a week is no growth, but what is searched for."""
GROWS = 3
"""An episode is said again when its largest hour is so many times the first one."""
SEARCHED_HOURS = 6
"""The last hours, which are judged again: events may come late, and the watcher may have been down."""
SETTLES = timedelta(minutes=5)
"""After an hour, until most of its events are in history."""
MAX_TEAMS = 500
"""Judged at once: those with the largest of the last hours."""
_HOUR = timedelta(hours=1)
_TO_DEVIATION = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""

_TEAMS = """
SELECT team, argMaxIf(name, of_hour, name != ''), groupArray((intDiv(toUnixTimestamp(of_hour), 3600), spent))
FROM
(
    SELECT hour AS of_hour, team, max(team_alias) AS name, sum(spent_usd) AS spent
    FROM usage_teams_by_hour
    WHERE hour >= {since:DateTime64(6, 'UTC')} AND hour < {until:DateTime64(6, 'UTC')} AND team != ''
    GROUP BY of_hour, team
)
GROUP BY team
HAVING maxIf(spent, of_hour >= {searched:DateTime64(6, 'UTC')}) >= {least:Decimal(38, 9)}
ORDER BY maxIf(spent, of_hour >= {searched:DateTime64(6, 'UTC')}) DESC, team
LIMIT {teams:UInt32}
"""
_EVERYTHING = """
SELECT intDiv(toUnixTimestamp(hour), 3600) AS of_hour, sum(spent_usd)
FROM usage_teams_by_hour
WHERE hour >= {since:DateTime64(6, 'UTC')} AND hour < {until:DateTime64(6, 'UTC')}
GROUP BY of_hour
"""

SpentHours = Mapping[int, int]
"""Hours since 1970 (UTC), and what was spent in each in nano-USD; what is missing is 0."""


class AnomalyRule(NamedTuple):
    """When an hour is unusual: all of it must hold."""

    least_nanousd: NanoUsd = from_usd("10")
    """Spent in the hour, so that nobody is alarmed for less."""
    ratio: float = 2.5
    """To what is usual."""
    deviations: float = 6.0
    """Above what is usual, by the median absolute deviation of the hours that it is compared with."""
    of_largest: float = 1.25
    """To the second largest hour near this time on any day of the weeks before: of who spends in bursts."""
    weeks: int = 8
    least_weeks: int = 3
    """Since the first spend: before, nobody knows what is usual."""


class UnusualHour(NamedTuple):
    """An hour that is unusual, and what is usual then."""

    hour: int
    spent_nanousd: NanoUsd
    usual_nanousd: NanoUsd
    since: int
    """The first unusual hour of the episode that it belongs to."""
    stage: str
    """Changes when the episode is to be said again."""


def usual_spend(spent: SpentHours, hour: int, rule: AnomalyRule) -> tuple[float, float] | None:
    """The median of the same hours before, and their deviation; None: too little is known."""
    first = min(spent, default=hour)
    if hour - first < rule.least_weeks * HOURS_OF_A_WEEK:
        return None
    same = [
        hour - week * HOURS_OF_A_WEEK + beside for week in range(1, rule.weeks + 1) for beside in NEIGHBOURS
    ]
    before = [spent.get(one, 0) for one in same if one >= first]
    middle = median(before)
    return middle, _TO_DEVIATION * median(abs(one - middle) for one in before)


def is_unusual(spent: SpentHours, hour: int, rule: AnomalyRule) -> bool:
    """Whether more was spent in the hour than is usual, and than growth explains."""
    amount = spent.get(hour, 0)
    if amount < rule.least_nanousd or (usual := usual_spend(spent, hour, rule)) is None:
        return False
    middle, deviation = usual
    most = max(
        rule.ratio * middle,
        middle + rule.deviations * deviation,
        rule.of_largest * _second_largest(spent, hour, rule),
    )
    # Checked first without the growth, which needs every hour.
    return amount > most and amount > most * growth_of(spent, hour, rule)


def growth_of(spent: SpentHours, hour: int, rule: AnomalyRule) -> float:
    """The week until yesterday by the average week with any spend: 1 at the least, MAX_GROWTH at the most."""
    until = hour - HOURS_OF_A_DAY
    weeks = [
        sum(
            spent.get(one, 0)
            for one in range(until - (week + 1) * HOURS_OF_A_WEEK, until - week * HOURS_OF_A_WEEK)
        )
        for week in range(rule.weeks)
    ]
    known = [one for one in weeks if one]
    return min(max(weeks[0] * len(known) / sum(known), 1.0), MAX_GROWTH) if known else 1.0


def unusual_hour(spent: SpentHours, hour: int, rule: AnomalyRule) -> UnusualHour | None:
    """The hour, if it is unusual and its episode has not gone on for too long."""
    if not is_unusual(spent, hour, rule):
        return None
    since, largest, usual_hours = hour, spent[hour], 0
    for before in range(hour - 1, hour - MAX_EPISODE_HOURS - ENDS_AFTER_HOURS, -1):
        if is_unusual(spent, before, rule):
            since, largest, usual_hours = before, max(largest, spent[before]), 0
        else:
            usual_hours += 1
            if usual_hours == ENDS_AFTER_HOURS:
                break
    if hour - since >= MAX_EPISODE_HOURS:
        return None
    found = usual_spend(spent, hour, rule)
    assert found is not None, "the hour is unusual"
    stage = f"{(hour - since) // HOURS_OF_A_DAY}.{_times_grown(spent[since], largest)}"
    return UnusualHour(hour, NanoUsd(spent[hour]), NanoUsd(round(found[0])), since, stage)


def unusual_hours(spent: SpentHours, hours: Iterable[int], rule: AnomalyRule) -> list[UnusualHour]:
    """Those of these hours that are unusual, in their order."""
    return [one for hour in hours if (one := unusual_hour(spent, hour, rule)) is not None]


def said_once(unusual: Iterable[UnusualHour]) -> list[UnusualHour]:
    """Those that are to be said: of an episode's stage the first."""
    found: dict[tuple[int, str], UnusualHour] = {}
    for one in unusual:
        found.setdefault((one.since, one.stage), one)
    return list(found.values())


def explains(teams: Iterable[UnusualHour], everything: UnusualHour) -> bool:
    """Whether these teams' excess in the same hour is most of what everything spent too much."""
    excess = sum(one.spent_nanousd - one.usual_nanousd for one in teams if one.hour == everything.hour)
    return 2 * excess >= everything.spent_nanousd - everything.usual_nanousd


def _second_largest(spent: SpentHours, hour: int, rule: AnomalyRule) -> int:
    """Of the largest hours near this time on each day before the second: one anomaly hides no other."""
    largest = [
        max(spent.get(hour - day * HOURS_OF_A_DAY + beside, 0) for beside in NEAR)
        for day in range(1, rule.weeks * 7 + 1)
    ]
    return sorted(largest)[-2]


def _times_grown(first: int, largest: int) -> int:
    times = 0
    while largest >= first * GROWS ** (times + 1):
        times += 1
    return times


class TeamHours(NamedTuple):
    """What a team spent by the hour; an empty id is everything."""

    team: str
    name: str
    """For people; empty if history has none."""
    spent: SpentHours


class UnusualSpend(NamedTuple):
    """An unusual hour, and whose it is."""

    team: str
    name: str
    hour: UnusualHour


def find_unusual(teams: Iterable[TeamHours], hours: Sequence[int], rule: AnomalyRule) -> list[UnusualSpend]:
    """All that is to be said of these hours: of everything only what no team explains."""
    found, everything = list[UnusualSpend](), list[UnusualSpend]()
    of_teams: list[UnusualHour] = []
    for one in teams:
        unusual = unusual_hours(one.spent, hours, rule)
        if one.team:
            of_teams += unusual
        of = found if one.team else everything
        of += [UnusualSpend(one.team, one.name, hour) for hour in unusual]
    everything = [one for one in everything if not explains(of_teams, one.hour)]
    said = [*found, *everything]
    return [
        UnusualSpend(team, name, hour)
        for team, name in dict.fromkeys((one.team, one.name) for one in said)
        for hour in said_once(one.hour for one in said if one.team == team)
    ]


def anomaly_message(one: UnusualSpend, most: Sequence[str], zone: ZoneInfo) -> str:
    """Who, how much in which hour, what is usual then, what is most of it."""
    begin = _time(one.hour.hour)
    until = (begin + _HOUR).astimezone(zone)
    who = f"team {name_of('team', one.team, {('team', one.team): one.name})}" if one.team else "everything"
    usual = usd(one.hour.usual_nanousd) if one.hour.usual_nanousd else "nothing"
    said = (
        f"{who} spent {usd(one.hour.spent_nanousd)} from {local_time(begin, zone)} to {until:%H:%M},"
        f" where {usual} is usual"
    )
    if one.hour.since != one.hour.hour:
        said += f"; this began {local_time(_time(one.hour.since), zone)}"
    return f"{said}; most of it: {', '.join(most)}" if most else said


@dataclass(frozen=True)
class Anomalies:
    """Once when an episode begins, again each day that it lasts, and when it has grown threefold."""

    settings: WatchSettings
    name: str = "anomaly"

    @property
    def every(self) -> timedelta:
        return timedelta(minutes=self.settings.watch_anomaly_every_minutes)

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        rule = AnomalyRule(
            least_nanousd=from_float_usd(self.settings.watch_anomaly_least_usd),
            ratio=self.settings.watch_anomaly_ratio,
        )
        end = (now - SETTLES - EPOCH) // _HOUR
        hours = range(end - SEARCHED_HOURS, end)
        teams = read_hours(history, hours, rule)
        return [self._alert(history, one, now) for one in find_unusual(teams, hours, rule)]

    def _alert(self, history: Client, one: UnusualSpend, now: datetime) -> Alert:
        message = anomaly_message(one, _most(history, one), self.settings.watch_zone)
        subject = {"team": one.team} if one.team else {}
        return finding_of(AlertKind.ANOMALY, subject, _time(one.hour.since), one.hour.stage, message, now)


def read_hours(history: Client, hours: Sequence[int], rule: AnomalyRule) -> list[TeamHours]:
    """What teams spent by the hour, as far back as these hours' episodes are judged by. Blocking."""
    back = rule.weeks * HOURS_OF_A_WEEK + MAX_EPISODE_HOURS + HOURS_OF_A_DAY
    span = {"since": _time(hours[0] - back), "until": _time(hours[-1] + 1)}
    least = {"least": to_usd(rule.least_nanousd), "searched": _time(hours[0]), "teams": MAX_TEAMS}
    teams = history.query(_TEAMS, parameters={**span, **least}).result_rows
    everything = history.query(_EVERYTHING, parameters=span).result_rows
    return [
        *(TeamHours(str(team), str(name), _spent_hours(spent)) for team, name, spent in teams),
        TeamHours("", "", _spent_hours(everything)),
    ]


def _spent_hours(rows: Iterable[Sequence[Any]]) -> dict[int, int]:
    return {int(hour): from_sum_usd(spent) for hour, spent in rows}


def _most(history: Client, one: UnusualSpend) -> list[str]:
    """Which key and which model spent most of it, and of everything which team."""
    within = SpendSpan(_time(one.hour.hour), _time(one.hour.hour + 1))
    found = []
    for dimension in ("key", "model") if one.team else ("team", "key", "model"):
        spender = _largest(history, one.team, dimension, within)
        if spender is not None:
            name = name_of(dimension, spender.ids[-1], {(dimension, spender.ids[-1]): spender.names[-1]})
            found.append(f"{dimension} {name} {usd(from_sum_usd(spender.spent.usd))}")
    return found


def _largest(history: Client, team: str, dimension: Dimension, within: SpendSpan) -> Spender | None:
    # Not by a filter: that one also fits another team of this name.
    by: list[Dimension] = ["team", dimension] if team else [dimension]
    spenders, _ = spend_by(history, by, within, {}, MAX_TEAMS, of_each=1)
    return next((one for one in spenders if one.ids[-1] and (not team or one.ids[0] == team)), None)


def _time(hour: int) -> datetime:
    return EPOCH + hour * _HOUR
