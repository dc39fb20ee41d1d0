"""The figures of a run, by route."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.adversary import law
from tests.adversary.case import Case
from tests.adversary.prices import bill
from tests.adversary.routes import readable
from tests.adversary.world import Batch


@dataclass(frozen=True, slots=True)
class Failure:
    """A breach of the law, with the least request that shows it."""

    kind: str
    detail: str
    case: Case | None
    number: int
    """Of the first case of the batch, under the run's seed."""


@dataclass
class Figures:
    """Of one route, or of all."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    left: int = 0
    calls: int = 0
    billed_nanousd: int = 0
    charged_nanousd: int = 0
    estimated_calls: int = 0
    estimated_least_nanousd: int = 0
    estimated_most_nanousd: int = 0


@dataclass
class Report:
    """What a run has found so far."""

    seed: int
    routes: dict[str, Figures] = field(default_factory=dict)
    total: Figures = field(default_factory=Figures)
    found: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    batches: int = 0

    @property
    def is_clean(self) -> bool:
        return not self.found

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.batches += 1
        self.seconds += batch.seconds
        for one in batch.sent:
            for figures in self._of(one.case.route):
                figures.requests += len(one.statuses)
                figures.answered += sum(1 for status in one.statuses if 200 <= status < 400)
                figures.refused += sum(1 for status in one.statuses if status >= 400)
                figures.left += one.statuses.count(0)
        for route, call in batch.calls_by_route():
            amount = bill(call)
            for figures in self._of(route):
                figures.calls += 1
                if amount.is_exact:
                    figures.billed_nanousd += amount.least
                else:
                    figures.estimated_calls += 1
                    figures.estimated_least_nanousd += amount.least
                    figures.estimated_most_nanousd += amount.most
        for route, event in batch.events_by_route():
            for figures in self._of(route):
                figures.charged_nanousd += int(event["cost_nanousd"])
        for violation, _ in batch.found:
            self.found[violation.kind] += 1

    def lines(self) -> list[str]:
        """For a person."""
        names = ("calls", "refused", "left", "billed $", "charged $", "estimated")
        rows = [f"{'route':<24}{'requests':>9}" + "".join(f"{name:>11}" for name in names)]
        for name, one in [*sorted(self.routes.items()), ("all", self.total)]:
            rows.append(
                f"{name:<24}{one.requests:>9}{one.calls:>11}{one.refused:>11}{one.left:>11}"
                f"{one.billed_nanousd / 1e9:>11.6f}{one.charged_nanousd / 1e9:>11.6f}"
                f"{one.estimated_calls:>11}"
            )
        rows.append(f"{self.batches} batches in {self.seconds:.0f} s, seed {self.seed}")
        rows += [f"{count:>6} × {kind}" for kind, count in sorted(self.found.items())] or ["the law holds"]
        for failure in self.failures:
            rows += ["", f"{failure.kind}: {failure.detail} (near case {failure.number})"]
            if failure.case is not None:
                rows += [readable(failure.case), failure.case.to_json()]
        return rows

    def as_json(self) -> str:
        """For a page of docs."""
        return json.dumps(self._data(), indent=1)

    def _data(self) -> Mapping[str, Any]:
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "total": asdict(self.total),
            "routes": {name: asdict(one) for name, one in sorted(self.routes.items())},
            "leaked_holds": self.found[law.HELD],
            "past_a_spent_budget": self.found[law.PAST] + self.found[law.OVER],
            "found": dict(self.found),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def _of(self, route: str) -> tuple[Figures, Figures]:
        return self.routes.setdefault(route, Figures()), self.total
