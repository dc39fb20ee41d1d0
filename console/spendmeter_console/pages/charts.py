"""Charts as numbers that a template draws: stacked columns over time, a line that climbs to a limit. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from spendmeter.contract.money import NanoUsd
from spendmeter.values.times import TimeSpan
from spendmeter_console.history.rows import CurvePoint, Point
from spendmeter_console.live.standing import Standing

WIDTH, HEIGHT = 960, 240
LEFT, RIGHT, TOP, BOTTOM = 72, 8, 10, 26
MAX_SERIES = 8
MAX_LABELS = 8
_NICE = (1, 2, 5)


class ColumnPart(NamedTuple):
    """One piece of a column."""

    series: int
    y: float
    height: float
    spent_nanousd: NanoUsd


class Column(NamedTuple):
    """One step of time."""

    at: datetime
    x: float
    width: float
    parts: list[ColumnPart]
    spent_nanousd: NanoUsd


class Series(NamedTuple):
    """A line of the legend."""

    value: str
    label: str
    spent_nanousd: NanoUsd
    is_rest: bool


class Tick(NamedTuple):
    """A line across, or a mark below."""

    at: float
    amount_nanousd: NanoUsd
    time: datetime | None = None


class ColumnChart(NamedTuple):
    """Stacked columns."""

    columns: list[Column]
    series: list[Series]
    ticks: list[Tick]
    labels: list[Tick]


class CurveChart(NamedTuple):
    """A line of what was spent, and the limit across."""

    line: str
    area: str
    limit_y: float
    thresholds: list[tuple[float, float]]
    """Of each warning: where, and at which share."""
    ticks: list[Tick]
    labels: list[Tick]
    forecast: str
    """From now to where the limit will be reached; empty where it will not be in this window."""


def stacked(
    points: Sequence[Point], totals: Sequence[Point] | None, values: Sequence[str], at: Sequence[datetime]
) -> ColumnChart:
    """Columns of these values in their order; what `totals` has beyond them is a series of its own."""
    amounts: dict[tuple[datetime, str], int] = {(one.at, one.value): one.spent_nanousd for one in points}
    labels = {one.value: one.label for one in points}
    whole = {one.at: int(one.spent_nanousd) for one in totals} if totals is not None else {}
    rows: list[list[int]] = []
    for moment in at:
        row = [amounts.get((moment, value), 0) for value in values]
        if totals is not None:
            row.append(whole.get(moment, 0) - sum(row))
        rows.append(row)
    names = [(value, labels.get(value, value), False) for value in values]
    if totals is not None:
        names.append(("", "others", True))
    sums = [sum(row[n] for row in rows) for n in range(len(names))]
    shown = [n for n in range(len(names)) if sums[n] or not names[n][2]]
    # A correction may make a step negative: it is then not drawn, and its title says what it is.
    top = max((sum(max(0, row[n]) for n in shown) for row in rows), default=0)
    ticks = _ticks(top)
    scale = _scale(ticks)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(at))
    columns = []
    for number, (moment, row) in enumerate(zip(at, rows, strict=True)):
        parts, base = [], 0
        for number_shown, n in enumerate(shown):
            if row[n] > 0:
                height = row[n] * scale
                parts.append(
                    ColumnPart(number_shown, HEIGHT - BOTTOM - base * scale - height, height, NanoUsd(row[n]))
                )
                base += row[n]
        gap = min(4.0, step * 0.15)
        columns.append(
            Column(
                moment, LEFT + number * step + gap / 2, step - gap, parts, NanoUsd(sum(row[n] for n in shown))
            )
        )
    every = max(1, -(-len(at) // MAX_LABELS))
    return ColumnChart(
        columns,
        [Series(*names[n][:2], NanoUsd(sums[n]), names[n][2]) for n in shown],
        [Tick(HEIGHT - BOTTOM - one * scale, NanoUsd(one)) for one in ticks],
        [Tick(LEFT + (n + 0.5) * step, NanoUsd(0), at[n]) for n in range(0, len(at), every)],
    )


def curve(
    points: Sequence[CurvePoint], standing: Standing, warn_at: Sequence[float], span: TimeSpan, now: datetime
) -> CurveChart | None:
    """What an account spent in a window, as steps; None where it spent nothing."""
    if not points:
        return None
    limit, out = standing.limit_nanousd, standing.runs_out_at
    top = max(int(limit), *(int(one.spent_nanousd) for one in points))
    ticks = _ticks(top)
    scale = _scale(ticks)
    seconds = (span.end - span.start).total_seconds()
    floor = HEIGHT - BOTTOM

    def x(at: datetime) -> float:
        share = min(1.0, max(0.0, (at - span.start).total_seconds() / seconds))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(amount: int) -> float:
        return round(floor - amount * scale, 1)

    steps = [f"M{x(span.start)} {floor}"]
    for one in points:
        steps.append(f"H{x(one.at)}V{y(one.spent_nanousd)}")
    end = x(min(now, span.end))
    steps.append(f"H{end}")
    line = "".join(steps)
    return CurveChart(
        line,
        f"{line}V{floor}Z",
        y(limit),
        [(y(int(limit * share)), share) for share in warn_at],
        [Tick(y(one), NanoUsd(one)) for one in ticks],
        [
            Tick(x(at), NanoUsd(0), at)
            for at in (span.start + (span.end - span.start) * n / 4 for n in range(5))
        ],
        f"M{end} {y(points[-1].spent_nanousd)}L{x(out)} {y(limit)}" if out and out <= span.end else "",
    )


def _ticks(top: int) -> list[int]:
    """Three to six round amounts from 0 to at least `top`."""
    if top <= 0:
        return [0, 1]
    step = 1
    while True:
        for factor in _NICE:
            if step * factor * 5 >= top:
                whole = step * factor
                return [whole * n for n in range(-(-top // whole) + 1)]
        step *= 10


def _scale(ticks: Sequence[int]) -> float:
    return (HEIGHT - TOP - BOTTOM) / ticks[-1]
