"""How far off the forecast is: tested backwards over synthetic days, weeks and months of load.

Each account spends by a known shape with random single requests, so that the true moment of
exhaustion is known. Every forecast that a signal would carry counts: its error is
|predicted - actual| / (actual - now). Run: python bench/forecast.py
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median, quantiles
from typing import NamedTuple

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import Window
from spendmeter_stream.judge.forecast import burnt, exhausted_at, worth_an_alert
from spendmeter_stream.state import Burn

SEED = 20261122
ACCOUNTS = 40
"""For each shape and window."""
JUDGEMENTS = 400
"""In a window, evenly; each with a random number of requests of random cost before it."""
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOURS = {"day": 24, "week": 168, "month": 720}
SPARE = 1.25
"""The limit of the accounts that are not exhausted, in what they spend: a fifth of it is left."""

Shape = Callable[[float, float], float]
"""The rate at (hours since a Monday's midnight, share of the window), in any unit."""


def constant(hours: float, share: float) -> float:
    return 1.0


def office_hours(hours: float, share: float) -> float:
    """Busy from 8 to 18, every day."""
    return 1.0 if 8 <= hours % 24 < 18 else 0.05


def quiet_weekend(hours: float, share: float) -> float:
    """Office hours, and next to nothing on Saturday and Sunday."""
    return office_hours(hours, share) * (0.1 if hours % 168 >= 120 else 1.0)


def ramp(hours: float, share: float) -> float:
    """A load that grows fivefold over the window."""
    return 1.0 + 4.0 * share


def bursty(random: Random) -> Shape:
    """Agents that run for a twentieth of the window at ten times the rate between, at random."""
    busy = [random.random() < 0.25 for _ in range(20)]
    return lambda hours, share: 1.0 if busy[min(int(share * 20), 19)] else 0.1


SHAPES: dict[str, Callable[[Random], Shape]] = {
    "constant": lambda random: constant,
    "office hours": lambda random: office_hours,
    "quiet weekend": lambda random: quiet_weekend,
    "bursty agents": bursty,
    "linear ramp": lambda random: ramp,
}


class Spent(NamedTuple):
    """One account's window: what it had spent at each judgement."""

    window: Window
    times: list[datetime]
    spent_nanousd: list[int]


class Figures(NamedTuple):
    """Of one shape in one window."""

    median: float
    p90: float
    without: float
    """The share of judgements whose signal carries no forecast, though the limit will be spent."""
    alerted: float
    """The share of exhausted accounts that had an alert before."""
    early: float
    """The median share of the window by which those alerts came before."""
    false: float
    """The share of accounts with SPARE limit that had an alert all the same."""


def spend(shape: Shape, hours: int, random: Random) -> Spent:
    """A window of that length and load: Poisson-like requests, some of them ten times as dear."""
    step = timedelta(hours=hours) / JUDGEMENTS
    spent, times, total = [], [], 0
    for n in range(JUDGEMENTS):
        rate = 5 * shape(hours * (n + 0.5) / JUDGEMENTS, (n + 0.5) / JUDGEMENTS)
        requests = max(round(random.gauss(rate, rate**0.5)), 0)
        total += sum(random.choice((200_000, 500_000, 5_000_000)) for _ in range(requests))
        spent.append(total)
        times.append(MONDAY + step * (n + 1))
    return Spent(Window(MONDAY, MONDAY + timedelta(hours=hours)), times, spent)


def judged(account: Spent, limit: int) -> Iterator[tuple[datetime, Burn, int]]:
    """Every judgement below the limit, as the judge makes it."""
    burn, before = None, 0
    for now, spent in zip(account.times, account.spent_nanousd, strict=True):
        burn = burnt(burn, spent - before, account.window, now)
        before = spent
        if spent >= limit:
            return
        yield now, burn, spent


def exhaustion(account: Spent, limit: int) -> datetime:
    """When the limit really was spent."""
    return next(t for t, spent in zip(account.times, account.spent_nanousd, strict=True) if spent >= limit)


def errors(account: Spent, limit: int) -> list[float | None]:
    """Of each judgement before the account was exhausted; None where it carries no forecast."""
    actual = exhaustion(account, limit)
    off: list[float | None] = []
    for now, burn, spent in judged(account, limit):
        predicted = exhausted_at(burn, NanoUsd(limit - spent), account.window, now)
        off.append(abs(predicted - actual) / (actual - now) if predicted else None)
    return off


def alerted_at(account: Spent, limit: int) -> datetime | None:
    """When the forecast alert is sent, if ever."""
    for now, burn, spent in judged(account, limit):
        left, window = NanoUsd(limit - spent), account.window
        sure = worth_an_alert(burn, NanoUsd(spent), NanoUsd(limit), window, now)
        if sure and exhausted_at(burn, left, window, now) is not None:
            return now
    return None


def measure(shape: str, window: str) -> Figures:
    """Over ACCOUNTS seeded accounts, each exhausted somewhere in the second half of its window."""
    random = Random(f"{SEED} {shape} {window}")
    off: list[float | None] = []
    early: list[float] = []
    false = 0
    for _ in range(ACCOUNTS):
        account = spend(SHAPES[shape](random), HOURS[window], random)
        total = account.spent_nanousd[-1]
        limit = int(total * random.uniform(0.5, 0.95))
        off += errors(account, limit)
        alerted = alerted_at(account, limit)
        if alerted is not None:
            early.append((exhaustion(account, limit) - alerted) / timedelta(hours=HOURS[window]))
        false += alerted_at(account, int(total * SPARE)) is not None
    known = [error for error in off if error is not None]
    return Figures(
        median(known),
        quantiles(known, n=10)[-1],
        1 - len(known) / len(off),
        len(early) / ACCOUNTS,
        median(early) if early else 0.0,
        false / ACCOUNTS,
    )


def table() -> Iterator[str]:
    """As it stands in docs/forecast.md."""
    yield "| shape | window | median | p90 | without | alerted | early | false |"
    yield "|---|---|---|---|---|---|---|---|"
    for shape in SHAPES:
        for window in HOURS:
            if (shape, window) != ("quiet weekend", "day"):
                figures = " | ".join(f"{figure:.0%}" for figure in measure(shape, window))
                yield f"| {shape} | {window} | {figures} |"


def main() -> None:
    for line in table():
        print(line)


if __name__ == "__main__":
    main()
