"""What the canary's rounds come to, each with the fault that was on at the time. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import ceil

from tests.faults.canary import PlayedRound
from tests.faults.report import Injected

NO_FAULT = "no fault"
FRACTIONS = (0.5, 0.95, 0.99, 1.0)
SLOWEST = 5
NEVER_SECONDS = 300.0
"""How long a fault is named from which nothing recovered in time."""


def lines(rounds: Sequence[PlayedRound], injected: Sequence[Injected]) -> Iterator[str]:
    """The report: times, then each round that failed, or in which something was served or refused wrongly."""
    failed = [one for one in rounds if one.found.failed_at]
    requests = sum(one.found.requests for one in rounds)
    yield f"canary: {len(rounds)} rounds of {requests} requests, {len(failed)} failed"
    yield _times("to the refusal", [one.found.refused_after_ms for one in rounds])
    yield _times("to being served again", [one.found.readmitted_after_ms for one in rounds])
    past = sum(one.found.served_past_limit for one in rounds)
    below = sum(one.found.refused_below_limit for one in rounds)
    yield f"  served past the limit {past}, refused below it {below}"
    wheres = Counter((one.found.failed_at, fault_at(one, injected)) for one in failed)
    for (where, fault), number in sorted(wheres.items(), key=lambda counted: -counted[1]):
        yield f"  {number:>4} failed at {where} with {fault}"
    for one in sorted(rounds, key=_slowest_ms)[-SLOWEST:]:
        yield f"  slowest: {_slowest_ms(one):,.0f} ms with {fault_at(one, injected)}"
    for one in rounds:
        if one.found.failed_at or one.found.served_past_limit or one.found.refused_below_limit:
            yield f"  {_clock(one.began)} {_what(one)} with {fault_at(one, injected)}"


def quantile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that at least this fraction of all does not exceed."""
    return sorted(values)[max(0, ceil(fraction * len(values)) - 1)]


def fault_at(one: PlayedRound, injected: Sequence[Injected]) -> str:
    """The faults whose condition held during the round, else those that were being recovered from."""
    on = [i for i in injected if i.began <= one.ended and one.began <= i.ended]
    if on:
        return " and ".join(str(i.fault.kind) for i in on)
    after = [i for i in injected if i.ended <= one.ended and one.began <= i.ended + _recovery(i)]
    return " and ".join(f"after {i.fault.kind}" for i in after) or NO_FAULT


def _recovery(injected: Injected) -> float:
    return NEVER_SECONDS if injected.recovered_seconds is None else injected.recovered_seconds


def _times(what: str, found: Sequence[float | None]) -> str:
    known = [ms for ms in found if ms is not None]
    if not known:
        return f"  {what}: never"
    values = ", ".join(
        f"{'max' if fraction == 1 else f'p{fraction * 100:.0f}'} {quantile(known, fraction):,.1f}"
        for fraction in FRACTIONS
    )
    return f"  {what}, ms: {values} ({len(known)} rounds)"


def _slowest_ms(one: PlayedRound) -> float:
    return max(one.found.refused_after_ms or 0, one.found.readmitted_after_ms or 0)


def _what(one: PlayedRound) -> str:
    found = one.found
    said = [f"failed at {found.failed_at}: {found.failure}"] if found.failed_at else []
    if found.served_past_limit:
        said.append(f"{found.served_past_limit} served past the limit")
    if found.refused_below_limit:
        said.append(f"{found.refused_below_limit} refused below it")
    return ", ".join(said)


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"
