"""The forecast's laws, and that its error is the one that docs/forecast.md states."""

import importlib.util
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import Window
from spendmeter_stream.judge.forecast import burnt, exhausted_at
from spendmeter_stream.state import Burn
from tests.builders import NOON

ROOT = Path(__file__).parents[4]
DAY = Window(NOON, NOON + timedelta(days=1))
# No deadline: the machine is shared.
LAW = settings(deadline=None)
STEPS = st.lists(st.tuples(st.integers(1, 36_000), st.integers(0, 10**12)), min_size=1, max_size=20)


def burn_of(steps: list[tuple[int, int]], times: int = 1) -> tuple[Burn, timedelta]:
    """After spends that far apart in seconds, each judged in that many parts."""
    burn, since = burnt(None, 0, DAY, NOON), timedelta(0)
    for seconds, spent in steps:
        for part in range(times):
            since += timedelta(seconds=seconds) / times
            burn = burnt(burn, spent * (part + 1) // times - spent * part // times, DAY, NOON + since)
    return burn, since


@given(STEPS, st.integers(2, 5))
@LAW
def test_how_often_an_account_is_judged_does_not_matter(steps: list[tuple[int, int]], times: int) -> None:
    one, other = burn_of(steps)[0], burn_of(steps, times)[0]
    assert other.decayed_nanousd == pytest.approx(one.decayed_nanousd, rel=1e-6, abs=1_000)


@given(STEPS, st.integers(1, 10**13), st.integers(1, 10**13))
@LAW
def test_a_higher_limit_is_never_exhausted_earlier(
    steps: list[tuple[int, int]], left: int, raised_by: int
) -> None:
    burn, since = burn_of(steps)
    now = NOON + since
    low = exhausted_at(burn, NanoUsd(left), DAY, now)
    high = exhausted_at(burn, NanoUsd(left + raised_by), DAY, now)
    if high is not None:
        assert low is not None
        assert low <= high
    for at in filter(None, (low, high)):
        assert now - timedelta(seconds=1) <= at < NOON + timedelta(days=1)


def bench() -> Any:
    """The module bench/forecast.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("bench_forecast", ROOT / "bench" / "forecast.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_error_is_the_one_that_is_stated() -> None:
    page = (ROOT / "docs" / "forecast.md").read_text(encoding="utf-8")
    assert "\n".join(bench().table()) in page
