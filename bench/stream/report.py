"""The runs as a table and a chart: medians, each with the least and the most of the rounds."""

from collections.abc import Callable, Sequence
from statistics import median

from bench.stream.contender import Contender
from bench.stream.measure import Run
from bench.svg import Bar, bars

Figure = Callable[[Run], float | None]
_COLUMNS: tuple[tuple[str, Figure, str], ...] = (
    ("events/s", lambda run: run.events_per_second, ",.0f"),
    ("CPU-s per million", lambda run: run.cpu_per_million, ".1f"),
    ("of the second half", lambda run: run.warm_cpu_per_million, ".1f"),
    ("broker's CPU-s per million", lambda run: run.broker_cpu_per_million, ".1f"),
    ("start s", lambda run: run.start_seconds, ".1f"),
    ("peak MiB", lambda run: run.peak_mib, ",.0f"),
)


def table(contenders: Sequence[Contender], runs: Sequence[Run], facts: Sequence[str]) -> str:
    """Markdown: what it was measured on, then a row per contender."""
    lines = ["## Stream: usage events to windowed totals", "", *(f"- {fact}" for fact in facts), ""]
    lines += [
        "| contender | result | " + " | ".join(name for name, *_ in _COLUMNS) + " |",
        "|---|---|" + "---:|" * len(_COLUMNS),
    ]
    for contender in contenders:
        own = [run for run in runs if run.contender == contender.name]
        cells = [_cell(own, figure, form) for _, figure, form in _COLUMNS]
        lines.append(f"| {contender.title} | {_result(own)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {c.title}: {c.note}" for c in contenders if c.note)]
    return "\n".join(lines) + "\n"


def chart(contenders: Sequence[Contender], runs: Sequence[Run]) -> str:
    """SVG: processor time per million events, the steadier figure on a shared machine."""
    found = []
    for contender in contenders:
        own = [run.cpu_per_million for run in runs if run.contender == contender.name]
        if own:
            found.append(
                Bar(contender.title, median(own), min(own), max(own), contender.name.startswith("spendmeter"))
            )
    return bars("CPU-seconds per million events (less is better)", found)


def _cell(runs: Sequence[Run], figure: Figure, form: str) -> str:
    values = [value for run in runs if (value := figure(run)) is not None]
    if not values:
        return "–"
    middle, least, most = (format(value, form) for value in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least}–{most})"


def _result(runs: Sequence[Run]) -> str:
    if not runs:
        return "did not run"
    wrong = [run.wrong for run in runs if run.wrong]
    return f"**WRONG**: {wrong[0]}" if wrong else "exact"
