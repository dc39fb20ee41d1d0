"""Bar and line charts as SVG, by hand: nothing to install for one picture."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _LABELS, _FIGURES, _ROW, _TOP = 860, 300, 150, 30, 46
_OURS, _THEIRS, _INK = "#2563eb", "#94a3b8", "#334155"


class Bar(NamedTuple):
    """A median with its least and most; `ours` only decides the colour."""

    label: str
    value: float
    least: float
    most: float
    ours: bool


def bars(title: str, found: Sequence[Bar]) -> str:
    """Horizontal bars from zero, each with a whisker from the least to the most."""
    height = _TOP + _ROW * len(found) + 14
    longest = max((bar.most for bar in found), default=1.0) or 1.0
    scale = (_WIDTH - _LABELS - _FIGURES) / longest
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
        f' font-size="13" fill="{_INK}"><rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for n, bar in enumerate(found):
        y = _TOP + n * _ROW
        middle = y + 11
        end = _LABELS + bar.most * scale
        lines += [
            f'<text x="{_LABELS - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{_LABELS}" y="{y}" width="{max(bar.value * scale, 1):.1f}" height="22"'
            f' fill="{_OURS if bar.ours else _THEIRS}"/>',
            f'<path d="M{_LABELS + bar.least * scale:.1f} {middle}H{end:.1f}" stroke="{_INK}"/>',
            f'<text x="{end + 8:.1f}" y="{y + 16}">{bar.value:,.1f}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


_COLOURS = ("#2563eb", "#dc2626", "#16a34a", "#9333ea", "#ea580c")
_PLOT_HEIGHT, _LEFT, _RIGHT = 260, 70, 200


class Line(NamedTuple):
    """One figure over time."""

    label: str
    values: Sequence[float]


def lines(title: str, x: Sequence[float], found: Sequence[Line]) -> str:
    """Lines over a common x axis, from zero."""
    values = [value for line in found for value in line.values if value == value]
    highest, last = max(values, default=1.0) or 1.0, x[-1] or 1.0
    across, up = (_WIDTH - _LEFT - _RIGHT) / last, _PLOT_HEIGHT / highest
    bottom = _TOP + _PLOT_HEIGHT
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 40}"'
        f' font-family="sans-serif" font-size="13" fill="{_INK}">'
        f'<rect width="{_WIDTH}" height="{bottom + 40}" fill="white"/>',
        f'<text x="12" y="26" font-size="15" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" stroke="{_THEIRS}" fill="none"/>',
        f'<text x="{_LEFT - 8}" y="{_TOP + 5}" text-anchor="end">{highest:,.0f}</text>',
        f'<text x="{_LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 20}" text-anchor="end">{last:,.0f}</text>',
    ]
    for n, line in enumerate(found):
        colour = _COLOURS[n % len(_COLOURS)]
        points = " ".join(
            f"{_LEFT + at * across:.1f},{bottom - value * up:.1f}"
            for at, value in zip(x, line.values, strict=True)
            if value == value
        )
        y = _TOP + 14 + n * 20
        drawn += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{_WIDTH - _RIGHT + 12}" y="{y}" fill="{colour}">{escape(line.label)}</text>',
        ]
    return "\n".join([*drawn, "</svg>"]) + "\n"
