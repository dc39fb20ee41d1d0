"""Keys, or another dimension's values, that made requests before and have made none for long."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from spendmeter.contract.alert import Alert, AlertKind
from spendmeter.contract.money import NanoUsd, from_sum_usd
from spendmeter.history.names import name_of, name_sql
from spendmeter.runtime.clickhouse import Client
from spendmeter.values.dimensions import Dimension
from spendmeter_sinks.alerts.message import usd
from spendmeter_sinks.watch.check import finding, finding_of
from spendmeter_sinks.watch.freshness import wait_for_history
from spendmeter_sinks.watch.settings import WatchSettings

EVERY = timedelta(hours=6)
MAX_ALERTS_A_DAY = 100
"""Of those whose last use was on one day: the ones that spent most."""
CAUGHT_UP_DAYS = 2
"""So much later it is still said: the watcher may have been down. Also what a first run says at the most."""
SPENT_DAYS = 30
"""The month before the last use, whose spend is said and decides who is largest; a week more at the most."""

_LAST_USED = """
SELECT id, argMax(whose, last), argMaxIf(name, last, name != ''), max(last), argMax(spent, last)
FROM
(
    SELECT `{of}` AS id, team AS whose, argMaxIf({name}, day, {name} != '') AS name,
        maxIf(day, requests > 0) AS last, sum(spent_usd) AS spent
    FROM by_day
    WHERE day >= {{since:Date}} AND `{of}` != ''
    GROUP BY id, whose
    HAVING sum(requests) > 0
)
GROUP BY id
HAVING max(last) BETWEEN {{first:Date}} AND {{until:Date}}
"""


class LastUse(NamedTuple):
    """Somebody, and when they made a request last."""

    id: str
    name: str
    """For people; empty if history has none."""
    team: str
    """Under which it was; empty: none."""
    day: date
    """UTC."""
    spent_nanousd: NanoUsd
    """Under that team, in the month before."""


class UnusedOfADay(NamedTuple):
    """Those who made their last request on one day."""

    day: date
    said: Sequence[LastUse]
    """The largest, each an alert."""
    more: int
    """Who are said by their number alone."""


def unused_by_day(found: Iterable[LastUse]) -> list[UnusedOfADay]:
    """By the day of the last use, the largest first."""
    of_day = defaultdict[date, list[LastUse]](list)
    for one in found:
        of_day[one.day].append(one)
    return [
        UnusedOfADay(day, largest[:MAX_ALERTS_A_DAY], max(0, len(largest) - MAX_ALERTS_A_DAY))
        for day, some in sorted(of_day.items())
        for largest in [sorted(some, key=lambda one: (-one.spent_nanousd, one.id))]
    ]


@dataclass(frozen=True)
class Unused:
    """Once per last use; who is used again and rests again is said again."""

    settings: WatchSettings
    name: str = "unused"

    @property
    def every(self) -> timedelta:
        return EVERY if self.settings.watch_unused_days else timedelta()

    def run(self, history: Client, now: datetime) -> Sequence[Alert]:
        days, of = self.settings.watch_unused_days, self.settings.watch_unused_of
        wait_for_history(self.settings, f"a {of} may only seem unused")
        found = unused_by_day(read_last_use(history, of, days, now))
        return [alert for one in found for alert in unused_alerts(one, of, days, now)]


def unused_alerts(found: UnusedOfADay, of: Dimension, days: int, now: datetime) -> list[Alert]:
    """One of each that is said, and one of how many more there are."""
    since, alerts = datetime.combine(found.day, time(), UTC), list[Alert]()
    last = f"{since:%a} {since.day} {since:%b %Y}"
    for one in found.said:
        subject = {of: one.id, **({"team": one.team} if one.team and of != "team" else {})}
        message = (
            f"{of} {name_of(of, one.id, {(of, one.id): one.name})} has made no request for {days} days,"
            f" since {last}; in the month before it spent {usd(one.spent_nanousd)}"
        )
        # By itself alone: what it belongs to may be corrected.
        alert = finding(AlertKind.UNUSED, f"|{of}={one.id}", since, "last", message, now, subject)
        alerts.append(alert)
    if found.more:
        message = (
            f"{found.more:,} more {of}s have made no request for {days} days, since {last}: those that spent"
            f" less than the {MAX_ALERTS_A_DAY} that are said by name"
        )
        alerts.append(finding_of(AlertKind.UNUSED, {}, since, of, message, now))
    return alerts


def read_last_use(history: Client, of: Dimension, days: int, now: datetime) -> list[LastUse]:
    """Who made their last request so many days ago, or up to CAUGHT_UP_DAYS more. Blocking."""
    until = now.astimezone(UTC).date() - timedelta(days=days + 1)
    first = until - timedelta(days=CAUGHT_UP_DAYS)
    rows = history.query(
        _LAST_USED.format(of=of, name=name_sql(of)),
        parameters={"since": first - timedelta(days=SPENT_DAYS), "first": first, "until": until},
    ).result_rows
    return [
        LastUse(str(id_), str(name), str(team), day, from_sum_usd(spent))
        for id_, team, name, day, spent in rows
    ]
