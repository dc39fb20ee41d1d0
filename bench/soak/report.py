"""The samples as a table and as pictures: is anything other at the end than it was at the beginning?"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.soak.watch import Sample
from bench.svg import Line, lines

Figure = Callable[[Sample], float]


def slope_per_hour(samples: Sequence[Sample], figure: Figure) -> float:
    """The least-squares line's rise in an hour."""
    x, y = [s.minutes / 60 for s in samples], [figure(s) for s in samples]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle_x) ** 2 for a in x)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def settled(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Without the first sixth, in which caches and heaps fill."""
    return samples[len(samples) // 6 :]


def table(samples: Sequence[Sample], facts: Sequence[str], reconciled: str) -> str:
    """Markdown: a row per figure, at the beginning and at the end of what is settled."""
    kept = settled(samples)
    part = max(1, len(kept) // 5)
    rows = [
        "| figure | first fifth | last fifth | slope per hour | most |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, figure in _figures(samples).items():
        first, last = (median(map(figure, side)) for side in (kept[:part], kept[-part:]))
        most = max(map(figure, kept))
        rows.append(
            f"| {name} | {first:,.1f} | {last:,.1f} | {slope_per_hour(kept, figure):+,.1f} | {most:,.1f} |"
        )
    hours = (samples[-1].minutes - samples[0].minutes) / 60
    used = [
        f"{name} {(samples[-1].cpu_seconds[name] - samples[0].cpu_seconds[name]) / hours / 3600:.2f}"
        for name in samples[0].cpu_seconds
    ]
    told = [*facts, f"processors used, on average: {', '.join(used)}", f"reconcile at the end: {reconciled}"]
    method = (
        "Medians of the settled samples (without the first sixth); slope by least squares over all of these."
    )
    return "\n".join(["## Soak", "", *(f"- {fact}" for fact in told), "", *rows, "", method]) + "\n"


def pictures(samples: Sequence[Sample]) -> Mapping[str, str]:
    """SVG by file name."""
    minutes = [s.minutes for s in samples]
    memory = [Line(name, [s.memory_mib[name] for s in samples]) for name in samples[0].memory_mib]
    lag = [Line(f"{name}'s lag", [s.lag[name] for s in samples]) for name in samples[0].lag]
    latency = [Line("p50", [s.p50_ms for s in samples]), Line("p99", [s.p99_ms for s in samples])]
    return {
        "soak-memory.svg": lines("Resident memory, MiB, by minute", minutes, memory),
        "soak-lag.svg": lines("Records not yet committed, by minute", minutes, lag),
        "soak-latency.svg": lines("From recording to the signal, ms, by minute", minutes, latency),
    }


def _figures(samples: Sequence[Sample]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for name in samples[0].memory_mib:
        found[f"memory of {name}, MiB"] = lambda s, n=name: s.memory_mib[n]  # type: ignore[misc]
    for name in samples[0].lag:
        found[f"lag of {name}, records"] = lambda s, n=name: s.lag[n]  # type: ignore[misc]
    found["signal p50, ms"] = lambda s: s.p50_ms
    found["signal p99, ms"] = lambda s: s.p99_ms
    return found
