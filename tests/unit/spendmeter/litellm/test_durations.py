"""LiteLLM's durations as periods: windows begin and end where LiteLLM would reset."""

from datetime import UTC, datetime

import pytest
from litellm.litellm_core_utils.duration_parser import get_next_standardized_reset_time

from spendmeter.contract.budget import Budget
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.window import window_of
from spendmeter.litellm.values import InvalidDuration, period_of

ON_THE_CALENDAR = ["1h", "1d", "7d", "30d", "1mo", "1w", "24h", "hourly", "daily", "weekly", "monthly"]
ALIGNED = ["2h", "6h", "12h", "36h", "5m", "15m", "20s", "30s", "3d", "14d", "2w"]
NOW = datetime(2026, 11, 22, 13, 47, 31, 250_000, tzinfo=UTC)


def window_end(duration: str) -> datetime | None:
    period = period_of(duration, NOW)
    budget = Budget(
        id="key:a",
        match={"key": "h"},
        limit_nanousd=NanoUsd(1),
        period=period.period,
        starts_at=period.starts_at,
        updated_at=NOW,
    )
    window = window_of(budget, NOW)
    assert window is not None
    return window.end


@pytest.mark.parametrize("duration", [*ON_THE_CALENDAR, *ALIGNED])
def test_the_first_window_ends_where_litellm_would_reset(duration: str) -> None:
    assert window_end(duration) == get_next_standardized_reset_time(duration, NOW)


@pytest.mark.parametrize(
    ("duration", "period"),
    [("1h", "hour"), ("1d", "day"), ("7d", "week"), ("30d", "month"), ("1mo", "month"), (None, "lifetime")],
)
def test_what_resets_on_the_calendar_is_a_named_period(duration: str | None, period: str) -> None:
    found = period_of(duration, NOW)

    assert found.period == period
    assert found.starts_at is None


@pytest.mark.parametrize("duration", ["banana", "0d", "2mo", "-1d", "1y", "d", "1.5h", "99999999d"])
def test_what_litellm_would_not_take_is_refused(duration: str) -> None:
    with pytest.raises(InvalidDuration, match="budget_duration"):
        period_of(duration, NOW)
