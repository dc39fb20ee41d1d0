"""What was measured beside what was aimed at."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bench.gateway.calls import Measured, Times

DECISION_P50_US, DECISION_P99_US, RECORDING_P99_US = 10.0, 50.0, 100.0


class Goal(NamedTuple):
    """One figure; without `at_most` it is only told."""

    what: str
    unit: str
    measured: float
    at_most: float | None = None
    most: float | None = None
    cpu: float | None = None
    """The same quantile of the calling thread's processor time: what a busy machine does not blur."""


def times_goals(state: str, measured: "Measured") -> Iterable[Goal]:
    """The quantiles that the goals are about, in one state of Kafka."""
    decision = ((0.5, DECISION_P50_US), (0.99, DECISION_P99_US))
    for what, times, wanted in (
        ("decision, settled", measured.settled_look, decision),
        ("decision, first look of a subject", measured.first_look, decision),
        ("recording", measured.recording, ((0.5, None), (0.99, RECORDING_P99_US))),
    ):
        for fraction, at_most in wanted:
            yield _quantile(f"{state}: {what}, p{fraction * 100:.0f}", times, fraction, at_most)


def alone_goals(what: str, times: "Times") -> Iterable[Goal]:
    """The median of calls without anything in between."""
    yield _quantile(f"{what}, p50", times, 0.5, DECISION_P50_US)


def _quantile(what: str, times: "Times", fraction: float, at_most: float | None) -> Goal:
    from bench.gateway.calls import quantile

    return Goal(what, "µs", quantile(times.wall, fraction), at_most, None, quantile(times.cpu, fraction))


def table(goals: Sequence[Goal], facts: Sequence[str]) -> str:
    """Markdown: a row per figure."""
    lines = ["## Gateway: the cost of being there", "", *(f"- {fact}" for fact in facts), ""]
    lines += [
        "| figure | measured | of it processor time | goal | measured / goal | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for goal in goals:
        most = f" (most {goal.most:,.1f})" if goal.most is not None else ""
        cells = [
            goal.what,
            f"{goal.measured:,.1f} {goal.unit}{most}",
            "" if goal.cpu is None else f"{goal.cpu:,.1f} {goal.unit}",
            "" if goal.at_most is None else f"≤ {goal.at_most:,.0f} {goal.unit}",
            "" if goal.at_most is None else f"{goal.measured / goal.at_most:.2f}",
            _verdict(goal),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _verdict(goal: Goal) -> str:
    if goal.at_most is None:
        return ""
    return "reached" if goal.measured <= goal.at_most else "**not reached**"
