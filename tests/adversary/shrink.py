"""From a batch that fails to one request that fails, and from that to the least of it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

from tests.adversary.case import Case
from tests.adversary.routes import ROUTES

MAX_TRIES = 40

Fails = Callable[[Sequence[Case]], Awaitable[bool]]
"""Whether these cases, run at one time, break the law as the whole batch did."""


async def narrow(cases: Sequence[Case], fails: Fails) -> Sequence[Case]:
    """A part of the batch that still fails: one case if one is enough, all of them if no part does."""
    while len(cases) > 1:
        half = len(cases) // 2
        for part in (cases[:half], cases[half:]):
            if await fails(part):
                cases = part
                break
        else:
            return cases
    return cases


async def shrink(case: Case, fails: Fails) -> Case:
    """The case with everything left out that the failure does not need, in at most `MAX_TRIES` tries."""
    tries = 0
    changed = True
    while changed:
        changed = False
        for simpler in _simpler(case):
            if tries >= MAX_TRIES:
                return case
            tries += 1
            if await fails([simpler]):
                case, changed = simpler, True
                break
    return case


def _simpler(case: Case) -> Iterator[Case]:
    """The case with one thing less, the greatest first."""
    changes = [
        replace(case, controls=()),
        *(replace(case, controls=tuple(c for c in case.controls if c != one)) for one in case.controls),
        replace(case, depth=0),
        replace(case, depth=case.depth // 2),
        replace(case, repeat=1, is_parallel=False),
        replace(case, is_parallel=False),
        replace(case, polls=0),
        replace(case, polls=min(case.polls, 1)),
        replace(case, marker=""),
        replace(case, reads="all", after_ms=0),
        replace(case, stream=False),
        replace(case, directive=()),
        *(case.with_directive(**{name: None}) for name, _ in case.directive),
        replace(case, words=3),
        replace(case, model=ROUTES[case.route].models[0]),
        replace(case, owner="plain") if case.owner == "crowd" else case,
    ]
    seen = {case}
    for one in changes:
        if one not in seen:
            seen.add(one)
            yield one
