"""The turns as a table: medians over the rounds, and each beside LiteLLM alone under the same load."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.proxy.contenders import BARE
from bench.proxy.drive import Turn

_FIGURES: tuple[tuple[str, Callable[[Turn], float]], ...] = (
    ("requests/s", lambda turn: turn.per_second),
    ("p50 ms", lambda turn: turn.p50_ms),
    ("p99 ms", lambda turn: turn.p99_ms),
    ("proxy's CPU-ms per request", lambda turn: turn.cpu_ms),
)


def table(turns: Sequence[Turn], facts: Sequence[str], absent: Mapping[str, str]) -> str:
    """Markdown: a row per load and contender."""
    lines = ["## Proxy: LiteLLM with and without", "", *(f"- {fact}" for fact in facts), ""]
    lines += [
        "| clients | LiteLLM | " + " | ".join(name for name, _ in _FIGURES) + " | CPU beside alone |",
        "|---:|---|" + "---:|" * (len(_FIGURES) + 1),
    ]
    for clients in sorted({turn.clients for turn in turns}):
        for name in dict.fromkeys(turn.contender for turn in turns):
            own = _of(turns, name, clients)
            cells = [_cell([figure(turn) for turn in own]) for _, figure in _FIGURES]
            failed = sum(turn.failed for turn in own)
            title = f"{name} (**{failed} failed**)" if failed else name
            lines.append(
                f"| {clients} | {title} | " + " | ".join([*cells, _beside(turns, own, clients)]) + " |"
            )
    lines += ["", *(f"- not there: {name}: {why.strip()[-300:]}" for name, why in absent.items())]
    return "\n".join(lines) + "\n"


def _of(turns: Sequence[Turn], name: str, clients: int) -> list[Turn]:
    return [turn for turn in turns if (turn.contender, turn.clients) == (name, clients)]


def _cell(values: Sequence[float]) -> str:
    middle = f"{median(values):,.1f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.1f}–{max(values):,.1f})"


def _beside(turns: Sequence[Turn], own: Sequence[Turn], clients: int) -> str:
    alone = [turn.cpu_ms for turn in _of(turns, BARE, clients)]
    return f"{median(turn.cpu_ms for turn in own) / median(alone):.2f}" if alone else "–"
