"""What the harness needs to know of a contender."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.stream.place import Place

READY = "bench: ready"
"""What a contender prints once its partitions are assigned and what it kept is recovered."""


class NotAvailable(RuntimeError):
    """A contender cannot be built here; the message says why. The others still run."""


@dataclass(frozen=True, slots=True)
class Start:
    """One run of a contender: how it is started, and how its end is seen."""

    command: Sequence[str]
    group: str
    """The consumer group in which it commits offsets of the topic."""
    env: Mapping[str, str] = field(default_factory=dict)
    metrics_url: str | None = None
    """Where to ask whether it is ready; without, it prints READY."""
    also_reads: str | None = None
    """Another topic of the same group that it must have read to its end."""


Begin = Callable[[Place, str], Awaitable[Start]]
"""Fresh state for a run of that name."""
Check = Callable[[Place, Start, Path], Awaitable[str | None]]
"""What is wrong with the result, or None. The path is the run's log."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    title: str
    begin: Begin
    check: Check
    build: Callable[[], str]
    """Get what it needs; returns its versions. Raises NotAvailable."""
    share_of_events: float = 1.0
    """Of the run's events: a slow one gets fewer, and figures per event are compared."""
    note: str = ""
