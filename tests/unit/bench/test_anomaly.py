"""The measurement of the rule for unusual spend: what it must find, and that it is right more often."""

from bench.anomaly import measure
from spendmeter_sinks.watch.anomaly import AnomalyRule

TEAMS = 2


def test_the_rule_is_wrong_far_less_often_than_three_times_the_mean() -> None:
    figures = measure("office hours", AnomalyRule(), TEAMS)

    assert figures.false_a_week < figures.false_by_mean / 5
    assert figures.runaways > 0.5


def test_it_finds_what_is_plain_and_alarms_nobody_for_cents() -> None:
    steady, cents = (measure(kind, AnomalyRule(), TEAMS) for kind in ("steady agents", "spends cents"))

    assert (steady.found[-1], steady.runaways, steady.hours_late) == (1, 1, 1)
    assert cents == (0, 0, (0, 0, 0), 0, None)
