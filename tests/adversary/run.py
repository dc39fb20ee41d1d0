"""A run: batches of generated cases against a world, judged, and each new kind of failure shrunk."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.adversary.case import Case
from tests.adversary.generate import generate
from tests.adversary.law import Violation
from tests.adversary.report import Failure, Report
from tests.adversary.shrink import narrow, shrink
from tests.adversary.world import Batch, World

BATCH = 60
SLOW_SECONDS = 5.0

Say = Callable[[str], None]


async def run(
    world: World,
    *,
    seed: int,
    requests: int,
    shrinks: int,
    say: Say,
    first: int = 0,
    breaches: Path | None = None,
    only: Callable[[Case], bool] = lambda case: True,
) -> Report:
    """At least so many requests; the first `shrinks` kinds of failure are shrunk to one request each."""
    report, number = Report(seed), first
    known: set[tuple[str, str]] = set()
    while report.total.requests < requests:
        cases: list[Case] = []
        begun = number
        while len(cases) < BATCH:
            case = generate(seed, number)
            number += 1
            if only(case):
                cases.append(case)
        batch = await world.batch(cases)
        report.add(batch)
        if breaches is not None:
            _keep(breaches, batch)
        say(
            f"{report.total.requests:>7} requests {report.total.calls:>7} calls"
            f" {batch.seconds:>6.1f} s  {sum(report.found.values())} breaches"
        )
        for violation, suspects in batch.found:
            kind = (violation.kind, suspects[0].route if len(suspects) == 1 else "")
            if kind in known or len(report.failures) >= shrinks:
                continue
            known.add(kind)
            say(f"        {violation.kind}: {violation.detail}; shrinking")
            report.failures.append(await _failure(world, violation, suspects, batch, begun))
    return report


def _keep(path: Path, batch: Batch) -> None:
    """Append what was found, and what was slow."""
    lines: list[dict[str, object]] = [
        {**asdict(one), "cases": [asdict(case) for case in cases]} for one, cases in batch.found
    ]
    lines += [
        {"kind": "slow", "seconds": round(one.seconds, 1), "statuses": one.statuses, "case": asdict(one.case)}
        for one in batch.sent
        if one.seconds > SLOW_SECONDS
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


async def replay(world: World, case: Case) -> Batch:
    """One case alone."""
    return await world.batch([case])


async def _failure(
    world: World, violation: Violation, suspects: Sequence[Case], batch: Batch, number: int
) -> Failure:
    async def fails(cases: Sequence[Case]) -> bool:
        again = await world.batch(cases)
        return any(one.kind == violation.kind for one, _ in again.found)

    everything = [one.case for one in batch.sent]
    for cases in (suspects, everything):
        if cases and await fails(cases):
            least = await narrow(cases, fails)
            if len(least) == 1:
                return Failure(violation.kind, violation.detail, await shrink(least[0], fails), number)
    return Failure(violation.kind, f"{violation.detail}; no single case repeats it", None, number)
