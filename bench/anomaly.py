"""How often the rule for unusual spend is wrong, and what it finds: tested on synthetic half years.

Teams of several kinds spend by the hour; every hour is judged as `spendmeter watch` would judge it. Then
single hours are multiplied, and runaways added, each alone: was it said, and how soon?
Run: python -m bench.anomaly
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click

from spendmeter.contract.money import from_usd
from spendmeter_sinks.watch.anomaly import (
    HOURS_OF_A_WEEK,
    AnomalyRule,
    SpentHours,
    UnusualHour,
    said_once,
    unusual_hour,
    unusual_hours,
)

SEED = 20261201
TEAMS = 20
"""Of each kind."""
WEEKS = 26
BEGIN, ZONE = datetime(2026, 6, 1, tzinfo=UTC), ZoneInfo("Europe/Berlin")
"""A Monday; clocks go back within the half year."""
FIRST = int(BEGIN.timestamp()) // 3600
TRIES = 10
"""Anomalies injected into each team, one at a time."""
FACTORS = (3, 5, 10)
RUNAWAY_HOURS = 12
RUNAWAY = 2
"""A runaway adds so many times the team's busy hour (its 90th percentile) to each of its hours."""
_NANO = int(from_usd("1"))

Rate = Callable[[Random, datetime, int], float]
"""What a team spends in the hour that begins then on its clock, in its own unit; then the hour's number."""


def noise(random: Random, sigma: float) -> float:
    """Around 1."""
    return random.lognormvariate(-sigma * sigma / 2, sigma)


def office(random: Random, at: datetime, hour: int) -> float:
    """Busy from 8 to 18 on working days, a little in the evening, next to nothing at night."""
    share = 1.0 if 8 <= at.hour < 18 else 0.2 if 18 <= at.hour < 22 else 0.02
    return share * (0.05 if at.weekday() >= 5 else 1.0) * noise(random, 0.4)


def night_batch(random: Random, at: datetime, hour: int) -> float:
    """A run each night, which begins between 1 and 3 and ends between 4 and 5."""
    days = Random(f"batch {at.date()}")
    begin, end = days.choice((1, 2, 2, 2, 3)), days.choice((4, 5))
    return (1.0 if begin <= at.hour < end else 0.01) * noise(random, 0.25)


def steady(random: Random, at: datetime, hour: int) -> float:
    """Agents that never sleep."""
    return noise(random, 0.2)


def bursty(random: Random, at: datetime, hour: int) -> float:
    """One hour in twenty, at any time, spends about twenty times as much as the others, some far more."""
    return noise(random, 0.8) if random.random() < 0.05 else 0.05 * noise(random, 0.5)


def growing(random: Random, at: datetime, hour: int) -> float:
    """Office hours, and 10 % more each week."""
    return office(random, at, hour) * 1.1 ** ((hour - FIRST) / HOURS_OF_A_WEEK)


def holidays(random: Random, at: datetime, hour: int) -> float:
    """Office hours, but for three weeks of August and a Thursday and Friday now and then."""
    week = (hour - FIRST) // HOURS_OF_A_WEEK
    is_off = 10 <= week < 13 or (week % 7 == 4 and at.weekday() in (3, 4))
    return office(random, at, hour) * (0.03 if is_off else 1.0)


def new(random: Random, at: datetime, hour: int) -> float:
    """Office hours from the tenth week on, nothing before."""
    return office(random, at, hour) if hour - FIRST >= 10 * HOURS_OF_A_WEEK else 0.0


def monthly_job(random: Random, at: datetime, hour: int) -> float:
    """Office hours, and on the first of each month three hours of six times as much, whatever day that is."""
    runs = at.day == 1 and 9 <= at.hour < 12
    return office(random, at, hour) + (6.0 * noise(random, 0.2) if runs else 0.0)


def cents(random: Random, at: datetime, hour: int) -> float:
    """Bursty, with very little money."""
    return 0.001 * bursty(random, at, hour)


KINDS: Mapping[str, Rate] = {
    "office hours": office,
    "batch at night": night_batch,
    "steady agents": steady,
    "bursty": bursty,
    "growing 10 % a week": growing,
    "with holidays": holidays,
    "new": new,
    "a monthly job": monthly_job,
    "spends cents": cents,
}


class RuleFigures(NamedTuple):
    """Of one kind of team."""

    false_a_week: float
    """Alerts of a team and week in which nothing was injected, once it is known what is usual."""
    false_by_mean: float
    """The same of a simpler rule: three times the mean hour of the seven days before, once a day."""
    found: tuple[float, ...]
    """The share of hours that were multiplied by each of FACTORS, and said."""
    runaways: float
    """The share of runaways that were said."""
    hours_late: float | None
    """The median number of a runaway's hours until it was said, the first being 1."""


def spend(kind: str, number: int) -> dict[int, int]:
    """The hours of a team: its busy hour costs between $4 and $100."""
    random = Random(f"{SEED} {kind} {number}")
    unit = 4 * 25 ** random.random()
    spent = {}
    for hour in range(FIRST, FIRST + WEEKS * HOURS_OF_A_WEEK):
        at = (BEGIN + timedelta(hours=hour - FIRST)).astimezone(ZONE)
        if amount := int(_NANO * unit * KINDS[kind](random, at, hour)):
            spent[hour] = amount
    return spent


def false_alerts(spent: SpentHours, rule: AnomalyRule) -> list[UnusualHour]:
    """All that would be said of this half year."""
    return said_once(unusual_hours(spent, range(FIRST, FIRST + WEEKS * HOURS_OF_A_WEEK), rule))


def busy_hour(spent: SpentHours) -> int:
    """What nine of ten hours do not reach."""
    return sorted(spent.values())[len(spent) * 9 // 10]


def alerts_by_mean(spent: SpentHours, begin: int, end: int, rule: AnomalyRule) -> int:
    """Days with an hour above three times the mean of the seven days before, and the least amount."""
    days = set()
    for hour in range(begin, end):
        amount = spent.get(hour, 0)
        if amount >= rule.least_nanousd:
            week = sum(spent.get(one, 0) for one in range(hour - HOURS_OF_A_WEEK, hour))
            if amount * HOURS_OF_A_WEEK >= 3 * week:
                days.add(hour // 24)
    return len(days)


def multiplied(spent: SpentHours, hour: int, factor: int) -> dict[int, int]:
    """The same with one hour that costs so many times as much."""
    return {**spent, hour: spent[hour] * factor}


def with_runaway(spent: SpentHours, hour: int) -> dict[int, int]:
    """The same with something that runs away in that hour, at any time of the day."""
    more = RUNAWAY * busy_hour(spent)
    return {**spent, **{at: spent.get(at, 0) + more for at in range(hour, hour + RUNAWAY_HOURS)}}


def measure(kind: str, rule: AnomalyRule, teams: int = TEAMS) -> RuleFigures:
    """Over so many teams of a kind."""
    random = Random(f"{SEED} injected {kind}")
    alerts, by_mean, weeks, found = 0, 0, 0.0, dict.fromkeys(FACTORS, 0)
    late: list[int] = []
    for number in range(teams):
        spent = spend(kind, number)
        end, known = FIRST + WEEKS * HOURS_OF_A_WEEK, min(spent) + rule.least_weeks * HOURS_OF_A_WEEK
        alerts += len(false_alerts(spent, rule))
        by_mean += alerts_by_mean(spent, known, end, rule)
        weeks += (end - known) / HOURS_OF_A_WEEK
        busy = busy_hour(spent) // 4
        hours = [hour for hour in spent if known <= hour < end - RUNAWAY_HOURS and spent[hour] >= busy]
        for hour in random.sample(hours, TRIES):
            for factor in FACTORS:
                found[factor] += unusual_hour(multiplied(spent, hour, factor), hour, rule) is not None
            began = random.randrange(known, end - RUNAWAY_HOURS)
            running = with_runaway(spent, began)
            first = next(
                (at for at in range(began, began + RUNAWAY_HOURS) if unusual_hour(running, at, rule)), None
            )
            if first is not None:
                late.append(first - began + 1)
    tries = teams * TRIES
    shares = tuple(count / tries for count in found.values())
    return RuleFigures(
        alerts / weeks, by_mean / weeks, shares, len(late) / tries, median(late) if late else None
    )


def table(rule: AnomalyRule, teams: int) -> Iterator[str]:
    """As it stands in docs/alerts.md."""
    yield "| a team | false alerts a week | by 3 × the mean | × 3 | × 5 | × 10 | runaway | in its hour |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        figures = measure(kind, rule, teams)
        late = "–" if figures.hours_late is None else f"{figures.hours_late:g}"
        shares = " | ".join(f"{share:.0%}" for share in (*figures.found, figures.runaways))
        false = f"{figures.false_a_week:.3f} | {figures.false_by_mean:.2f}"
        yield f"| {kind} | {false} | {shares} | {late} |"


@click.command()
@click.option("--teams", type=click.IntRange(min=1), default=TEAMS, show_default=True, help="Of each kind.")
@click.option("--least-usd", help="Another rule.")
@click.option("--ratio", type=float, help="Another rule.")
@click.option("--deviations", type=float, help="Another rule.")
@click.option("--of-largest", type=float, help="Another rule.")
@click.option("--weeks", type=int, help="Another rule.")
def main(teams: int, least_usd: str | None, **changes: float | None) -> None:
    """Print the figures of a rule; without options, of the one that is used."""
    given = {name: value for name, value in changes.items() if value is not None}
    rule = AnomalyRule()._replace(**given)
    if least_usd is not None:
        rule = rule._replace(least_nanousd=from_usd(least_usd))
    for line in table(rule, teams):
        click.echo(line)


if __name__ == "__main__":
    main()
