"""What a key's answers say about whoever admitted them. Pure; spend is the upstream's own count."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal, with what was true right after it arrived."""

    spent_nanousd: int
    """By the calls that the upstream had completed."""
    running_nanousd: int
    """Of the key's other requests that were still out, at their real cost."""
    cost_nanousd: int
    """Of the refused request."""
    least_nanousd: int
    """Of the refused request with the shortest answer."""


@dataclass
class KeyResult:
    """One key, from its first request to the end of its last one."""

    limit_nanousd: int
    served: int = 0
    shortened: int = 0
    """Served with a shorter answer than asked for."""
    failed: int = 0
    """Neither served nor refused for the budget."""
    refusals: list[Refusal] = field(default_factory=list)
    spent_nanousd: int = 0
    seconds: float = 0

    @property
    def overspend_nanousd(self) -> int:
        return max(0, self.spent_nanousd - self.limit_nanousd)


@dataclass(frozen=True)
class Cell:
    """A row of the table: one contender under one load, over all keys."""

    contender: str
    clients: int
    max_tokens: bool
    keys: int
    served: int
    shortened: int
    failed: int
    refused: int
    below_limit: int
    """Refusals while the spend was below the limit: the false refusals, in the words of the question."""
    would_fit: int
    """Of those: spend and the request's real cost together were within the limit."""
    would_fit_beside_running: int
    """Of those: also with all that was running at that moment."""
    no_room: int
    """Of those below the limit: not even the shortest answer fitted beside all that was running."""
    overspend_max_nanousd: int
    overspend_max_percent: float
    overspend_mean_percent: float
    spent_mean_percent: float
    seconds: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def cell_of(contender: str, clients: int, max_tokens: bool, results: Iterable[KeyResult]) -> Cell:
    """The row of these keys; there is at least one."""
    keys = list(results)
    refusals = [(key.limit_nanousd, refusal) for key in keys for refusal in key.refusals]
    below = [(limit, one) for limit, one in refusals if one.spent_nanousd < limit]
    fits = [(limit, one) for limit, one in below if one.spent_nanousd + one.cost_nanousd <= limit]
    over = [key.overspend_nanousd for key in keys]
    percent = [100 * key.overspend_nanousd / key.limit_nanousd for key in keys]
    return Cell(
        contender,
        clients,
        max_tokens,
        len(keys),
        sum(key.served for key in keys),
        sum(key.shortened for key in keys),
        sum(key.failed for key in keys),
        len(refusals),
        len(below),
        len(fits),
        sum(_with_running(one) + one.cost_nanousd <= limit for limit, one in fits),
        sum(_with_running(one) + one.least_nanousd > limit for limit, one in below),
        max(over),
        max(percent),
        sum(percent) / len(percent),
        sum(100 * key.spent_nanousd / key.limit_nanousd for key in keys) / len(keys),
        sum(key.seconds for key in keys),
    )


def _with_running(refusal: Refusal) -> int:
    return refusal.spent_nanousd + refusal.running_nanousd
