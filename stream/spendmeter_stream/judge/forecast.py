"""The forecast: when an account will have spent its limit at its recent rate. Pure.

The estimator is one exponentially decayed average of the spend per second. Its half-life is a fixed
share of the window, so that an hourly budget notices in minutes what a monthly one averages over
days. bench/forecast.py backtests it; docs/forecast.md has its error and what it cannot see.

A rate is an estimate, not money: it is the only float in the stream.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from math import exp2, expm1, log

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import Window
from spendmeter.values.times import from_unix_us, to_unix_us
from spendmeter_stream.state import Burn

HALF_LIFE_SHARE = 1 / 8
# A window without an end is treated like one of this length, and forecast no further ahead.
ENDLESS = timedelta(days=30)
# Observed for less of the window, an account has no forecast: it would rest on a single burst.
MIN_WATCHED_SHARE = 1 / 24
# An alert wakes people, so it needs more evidence than the figure in every signal.
ALERT_WATCHED_SHARE = 1 / 8
ALERT_SPENT_SHARE = 0.25

_LN2 = log(2)
_MAX_REMEMBERED = 10_000
# The moments of rounds, each for all accounts that are judged in it.
_us = lru_cache(_MAX_REMEMBERED)(to_unix_us)


def burnt(burn: Burn | None, spent_nanousd: int, window: Window, now: datetime) -> Burn:
    """Add the spend since the last call, as if it were even; a refund leaves nothing below 0.

    The first call only starts the observation, because nobody knows over which time its spend came. If the
    clock runs back, the spend is added at the time of the last call.
    """
    now_us = _us(now)
    if burn is None:
        return Burn(now_us, now_us, 0.0)
    passed_us = max(now_us - burn.at_us, 0)
    passed = passed_us / _half_life_us(window)
    # The mean weight of spend that is even over that time.
    weight = -expm1(-passed * _LN2) / (passed * _LN2) if passed else 1.0
    decayed = burn.decayed_nanousd * exp2(-passed) + spent_nanousd * weight
    return Burn(burn.since_us, burn.at_us + passed_us, max(decayed, 0.0))


def exhausted_at(
    burn: Burn | None, remaining_nanousd: NanoUsd, window: Window, now: datetime
) -> datetime | None:
    """The second in which the limit will have been spent, or None if that is not expected.

    None: nothing is left, nothing was spent recently, the account was observed for too short a time,
    or the limit lasts to the window's end (without one: for longer than ENDLESS).
    """
    if burn is None or remaining_nanousd <= 0 or not _watched(burn, window, now, MIN_WATCHED_SHARE):
        return None
    left_us = remaining_us(burn, remaining_nanousd, window, now)
    if left_us is None or left_us >= _us(window.end or now + ENDLESS) - _us(now):
        return None
    at = from_unix_us(_us(now) + int(left_us))
    return at.replace(microsecond=0)


def remaining_us(burn: Burn, remaining_nanousd: NanoUsd, window: Window, now: datetime) -> float | None:
    """How long the rest will last at the present rate; None if the rate is 0."""
    half_life_us = _half_life_us(window)
    now_us = max(_us(now), burn.at_us)
    decayed = burn.decayed_nanousd * exp2((burn.at_us - now_us) / half_life_us)
    # The weight of the whole time observed: without it, a young account would seem to spend too little.
    weight_us = -half_life_us / _LN2 * expm1((burn.since_us - now_us) / half_life_us * _LN2)
    return remaining_nanousd * weight_us / decayed if decayed > 0 else None


def worth_an_alert(
    burn: Burn | None, spent_nanousd: NanoUsd, limit_nanousd: NanoUsd, window: Window, now: datetime
) -> bool:
    """Whether a forecast rests on enough time and money for an alert."""
    enough = spent_nanousd >= limit_nanousd * ALERT_SPENT_SHARE
    return burn is not None and enough and _watched(burn, window, now, ALERT_WATCHED_SHARE)


def _watched(burn: Burn, window: Window, now: datetime, share: float) -> bool:
    return _us(now) - burn.since_us >= share * _length_us(window)


def _half_life_us(window: Window) -> float:
    return _length_us(window) * HALF_LIFE_SHARE


@lru_cache(_MAX_REMEMBERED)
def _length_us(window: Window) -> float:
    length = ENDLESS if window.end is None else window.end - window.start
    return length / timedelta(microseconds=1)
