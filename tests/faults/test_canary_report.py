"""What is said of the canary beside a run: the times, and the fault that was on when a round went wrong."""

from datetime import UTC, datetime, timedelta

import pytest

from spendmeter.cli.canary.model import CanaryRound, FailedAt
from spendmeter.contract.money import NanoUsd
from tests.faults.canary import PlayedRound
from tests.faults.canary_report import NO_FAULT, fault_at, lines, quantile
from tests.faults.report import Injected
from tests.faults.schedule import Fault, Kind

AT = datetime(2026, 12, 1, 0, 45, tzinfo=UTC)
T = AT.timestamp()


def injected(verb: str, began: float, ended: float, recovered: float | None = 3.0) -> Injected:
    fault = Fault(1, Kind(verb, "stream"), 1.0, 1.0, 0.5)
    return Injected(fault, T + began, T + ended, recovered)


def played(at: float = 0, *, lasted: float = 1, **changed: object) -> PlayedRound:
    found = CanaryRound(
        at=AT + timedelta(seconds=at),
        refused_after_ms=20,
        readmitted_after_ms=30,
        requests=8,
        served_past_limit=0,
        refused_below_limit=0,
        cost_nanousd=NanoUsd(10_000),
        spent_today_nanousd=NanoUsd(10_000),
        failed_at=None,
        failure="",
    )
    return PlayedRound(found.model_copy(update=changed), T + at + lasted)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (8.9, NO_FAULT),
        (9.0, "kill stream"),
        (20.0, "kill stream"),
        (20.1, "after kill stream"),
        (23.0, "after kill stream"),
        (23.1, NO_FAULT),
    ],
)
def test_a_round_is_with_the_fault_that_was_on_else_with_what_was_recovered_from(
    at: float, expected: str
) -> None:
    assert fault_at(played(at), [injected("kill", 10, 20)]) == expected


def test_a_fault_from_which_nothing_recovered_stays() -> None:
    assert fault_at(played(320), [injected("freeze", 10, 20, None)]) == "after freeze stream"


def test_of_two_faults_both_are_named() -> None:
    faults = [injected("kill", 0, 2), injected("freeze", 2, 9)]

    assert fault_at(played(1, lasted=2), faults) == "kill stream and freeze stream"


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]

    assert [quantile(values, fraction) for fraction in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([7.0], 0.5) == 7


def test_the_report_counts_and_names_what_went_wrong() -> None:
    rounds = [
        played(0),
        played(
            12,
            failed_at=FailedAt.READMISSION,
            failure="still refused",
            readmitted_after_ms=None,
            refused_after_ms=40.5,
        ),
        played(40, served_past_limit=2, refused_below_limit=1, refused_after_ms=1500),
    ]

    said = list(lines(rounds, [injected("kill", 10, 20)]))

    assert said == [
        "canary: 3 rounds of 24 requests, 1 failed",
        "  to the refusal, ms: p50 40.5, p95 1,500.0, p99 1,500.0, max 1,500.0 (3 rounds)",
        "  to being served again, ms: p50 30.0, p95 30.0, p99 30.0, max 30.0 (2 rounds)",
        "  served past the limit 2, refused below it 1",
        "     1 failed at readmission with kill stream",
        "  slowest: 30 ms with no fault",
        "  slowest: 40 ms with kill stream",
        "  slowest: 1,500 ms with no fault",
        "  00:45:12 failed at readmission: still refused with kill stream",
        "  00:45:40 2 served past the limit, 1 refused below it with no fault",
    ]


def test_without_a_round_there_are_no_times() -> None:
    assert list(lines([], []))[1] == "  to the refusal: never"
