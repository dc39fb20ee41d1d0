"""What a run says at its end: one line per kind of fault for people, everything for machines. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.faults.canary import PlayedRound
from tests.faults.schedule import Fault
from tests.faults.verdict import Finding, Verdict


@dataclass
class Injected:
    """A fault that was done. Times are seconds since 1970."""

    fault: Fault
    began: float
    ended: float
    recovered_seconds: float | None
    """From the end of its condition until new events of every source were in totals and history."""


@dataclass
class Outcome:
    """Everything a run found."""

    seed: int
    seconds: float
    injected: list[Injected]
    verdict: Verdict
    totals_differ: list[str]
    other: list[str]
    """Anything else that is not as it should be, in words."""
    events: dict[str, int]
    reconcile: Any = None
    restarts: dict[str, str] = field(default_factory=dict)
    canary: Sequence[PlayedRound] = ()

    @property
    def is_clean(self) -> bool:
        return (
            self.verdict.is_clean
            and not self.totals_differ
            and not self.other
            and not any(one.found.refused_below_limit for one in self.canary)
            and all(one.recovered_seconds is not None for one in self.injected)
        )


def lines(outcome: Outcome) -> list[str]:
    """The report."""
    by_kind: dict[str, list[Injected]] = defaultdict(list)
    for one in outcome.injected:
        by_kind[str(one.fault.kind)].append(one)
    lost = _attributed(outcome.verdict.lost, outcome.injected)
    doubled = _attributed(outcome.verdict.doubled, outcome.injected)
    told = [
        f"{kind:<36} injected {len(ones):>3}   events lost {lost.get(kind, 0)}   events doubled"
        f" {doubled.get(kind, 0)}   recovery {_recovery(ones)}"
        for kind, ones in sorted(by_kind.items())
    ]
    verdict = outcome.verdict
    told += [
        "",
        f"seed {outcome.seed}: {len(outcome.injected)} faults in {outcome.seconds:.0f} s",
        *(f"  {name}: {count}" for name, count in outcome.events.items()),
        *(f"  restarts of {name}: {words}" for name, words in sorted(outcome.restarts.items())),
        f"lost {len(verdict.lost)}, doubled {len(verdict.doubled)}, wrong {len(verdict.wrong)},"
        f" totals that differ {len(outcome.totals_differ)}, other findings {len(outcome.other)}",
    ]
    findings = [f.what for f in (*verdict.lost, *verdict.doubled, *verdict.wrong)]
    for what in [*findings, *outcome.totals_differ, *outcome.other][:MAX_TOLD]:
        told.append(f"  ! {what}")
    told.append("EXACT" if outcome.is_clean else "NOT EXACT")
    return told


MAX_TOLD = 60


def as_json(outcome: Outcome) -> str:
    """The same, and each fault with its times."""
    verdict = outcome.verdict
    return json.dumps(
        {
            "exact": outcome.is_clean,
            "seed": outcome.seed,
            "seconds": round(outcome.seconds, 1),
            "events": outcome.events,
            "lost": [f.what for f in verdict.lost],
            "doubled": [f.what for f in verdict.doubled],
            "wrong": [f.what for f in verdict.wrong],
            "totals_differ": outcome.totals_differ,
            "other": outcome.other,
            "reconcile": outcome.reconcile,
            "restarts": outcome.restarts,
            "canary": [{**one.found.model_dump(mode="json"), "ended": one.ended} for one in outcome.canary],
            "faults": [
                {
                    "number": one.fault.number,
                    "kind": str(one.fault.kind),
                    "began": one.began,
                    "lasted_seconds": round(one.ended - one.began, 3),
                    "recovered_seconds": one.recovered_seconds,
                }
                for one in outcome.injected
            ],
        },
        indent=2,
    )


def _attributed(findings: Iterable[Finding], injected: Sequence[Injected]) -> dict[str, int]:
    """Findings by the kind of the fault that was the latest when what they are about was asked for."""
    counts: dict[str, int] = defaultdict(int)
    for finding in findings:
        before = [one for one in injected if one.began - 1.0 <= finding.at]
        counts[str(before[-1].fault.kind) if before else "before any fault"] += 1
    return counts


def _recovery(ones: Sequence[Injected]) -> str:
    known = [one.recovered_seconds for one in ones if one.recovered_seconds is not None]
    text = f"{median(known):.1f} s / {max(known):.1f} s" if known else "-"
    never = len(ones) - len(known)
    return text + (f", {never} never" if never else "")
