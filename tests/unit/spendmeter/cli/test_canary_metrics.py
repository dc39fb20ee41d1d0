"""What Prometheus reads of a round: whether one went through, and whether its refusal was late."""

from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from spendmeter.cli.canary import metrics
from spendmeter.cli.canary.model import CanaryRound, FailedAt
from spendmeter.contract.money import NanoUsd


def played(refused_after_ms: float | None = 20.0, failed_at: FailedAt | None = None) -> CanaryRound:
    return CanaryRound(
        at=datetime.now(UTC),
        refused_after_ms=refused_after_ms,
        readmitted_after_ms=None if failed_at else 30.0,
        requests=8,
        served_past_limit=0,
        refused_below_limit=0,
        cost_nanousd=NanoUsd(1),
        spent_today_nanousd=NanoUsd(1),
        failed_at=failed_at,
        failure="",
    )


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, f"{name} is there from the start"
    return found


@pytest.mark.parametrize(
    ("found", "late"),
    [
        (played(5_000.0), 0),
        (played(5_000.1), 1),
        (played(5_000.1, FailedAt.READMISSION), 1),
        (played(None, FailedAt.REFUSAL), 1),
        (played(None, FailedAt.PROXY), 0),
    ],
)
def test_a_refusal_is_late_after_five_seconds_or_where_none_came(found: CanaryRound, late: int) -> None:
    before = value("spendmeter_canary_late_refusals_total")

    metrics.count(found)

    assert value("spendmeter_canary_late_refusals_total") - before == late


def test_the_time_without_a_round_is_that_since_the_last_that_went_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    metrics.count(played())
    now[0] += 700
    metrics.count(played(failed_at=FailedAt.PROXY))
    assert value("spendmeter_canary_since_through_seconds") == 700
    metrics.count(played())
    assert value("spendmeter_canary_since_through_seconds") == 0
    assert value("spendmeter_canary_rounds_total", outcome="failed") >= 1
