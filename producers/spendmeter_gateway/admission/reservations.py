"""Holds: what running requests under `strict` budgets may yet cost, and who waits for it to be settled. Pure.

A hold is put down when a request is admitted and taken away in the very step that counts its real
cost. Sums are kept per account and window, so that every step is O(1) in the number of holds.
Who does not fit waits in line: first come, first served, in each account by itself.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.spend.tracker import WindowKey


class Requirement(NamedTuple):
    """What one account in one window must have left for a request."""

    key: WindowKey
    limit_nanousd: int
    certain_nanousd: int
    """Spent beyond doubt."""
    doubtful_nanousd: int
    """Perhaps spent as well. Here it counts as spent until an acknowledgement tells."""
    bound: Bound
    """What the request costs this account at the most; the tokens of it are the same for each."""


class Reserved(NamedTuple):
    """The request may go ahead with that many output tokens per answer; what it may cost is held."""

    output_tokens: int
    is_clamped: bool
    """Fewer than the request may use: they must be put into it."""
    freed: tuple[WindowKey, ...]
    """Where less is held than before, for a request that held something already."""


class Queued(NamedTuple):
    """The request waits in line: what it needs may be left once running ones have settled."""

    needs: tuple[Requirement, ...]
    """The accounts that are short."""


class Insufficient(NamedTuple):
    """The request cannot go ahead, and what is missing."""

    need: Requirement
    held_nanousd: int
    least_nanousd: int
    """The least that it would have to hold."""
    is_final: bool
    """It does not fit even if everything that runs turns out to cost nothing."""


class _Hold(NamedTuple):
    amounts: dict[WindowKey, int]
    since_seconds: float


_NO_HOLD = _Hold({}, 0.0)


class Reservations:
    """Every hold of this gateway. No I/O, no clock, no lock: those are the caller's."""

    def __init__(self) -> None:
        self._sums: dict[WindowKey, int] = {}
        self._running: dict[Hashable, _Hold] = {}
        self._lines: dict[WindowKey, list[int]] = {}
        self._positions: dict[int, tuple[WindowKey, ...]] = {}
        self._last_ticket = 0

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, request: object) -> bool:
        return request in self._running

    def held(self, key: WindowKey) -> int:
        """The sum of the holds on an account in a window, in nano-USD."""
        return self._sums.get(key, 0)

    def ticket(self) -> int:
        """A place in the order of arrival; a request keeps it however often it looks."""
        self._last_ticket += 1
        return self._last_ticket

    def reserve(
        self,
        request: Hashable,
        needs: Sequence[Requirement],
        ticket: int,
        now_seconds: float,
        *,
        may_clamp: bool,
        waits: bool,
    ) -> Reserved | Queued | Insufficient:
        """Hold what the request may cost on all of these accounts, or on none, in place of what it held.

        With `enough_tokens` it goes ahead at once. Where there is room for fewer only, it waits for
        running requests to settle; when none is left, or it waits no longer, it takes what there is.
        """
        own = self._running.get(request, _NO_HOLD).amounts
        for need in needs:
            if need.limit_nanousd - need.certain_nanousd < _least(need.bound, may_clamp=may_clamp):
                return self._short(need, own, may_clamp=may_clamp, is_final=True)
        short = tuple(need for need in needs if self._must_wait(need, own, ticket, may_clamp=may_clamp))
        if waits and short:
            self._stand(ticket, [need.key for need in short])
            return Queued(short)
        tokens = min(_assigned(need.bound, self._free(need, own)) for need in needs)
        for need in needs:
            if tokens < (need.bound.least_tokens if may_clamp else need.bound.most_tokens):
                tightest = min(needs, key=lambda one: one.bound.tokens_within(self._free(one, own)))
                return self._short(tightest, own, may_clamp=may_clamp, is_final=False)
        freed = self._put(request, {n.key: n.bound.nanousd(tokens) for n in needs}, now_seconds)
        return Reserved(tokens, any(tokens < need.bound.most_tokens for need in needs), freed)

    def release(self, request: Hashable) -> tuple[WindowKey, ...]:
        """The request has ended: nothing is held for it any longer. Returns the accounts that this frees."""
        return self._put(request, {}, 0.0)

    def expire(self, before_seconds: float) -> Iterator[tuple[WindowKey, ...]]:
        """Release what has been held since before that moment: its request's end has escaped us."""
        while self._running:
            request, hold = next(iter(self._running.items()))
            if hold.since_seconds >= before_seconds:
                return
            yield self.release(request)

    def leave(self, ticket: int) -> tuple[WindowKey, ...]:
        """Give up every place in line. Returns the accounts where somebody else may now be first."""
        keys = self._positions.pop(ticket, ())
        for key in keys:
            line = self._lines[key]
            del line[bisect_left(line, ticket)]
            if not line:
                del self._lines[key]
        return keys

    def first(self, key: WindowKey) -> int | None:
        """The ticket of whoever is first in line there."""
        line = self._lines.get(key)
        return line[0] if line else None

    def lines(self) -> list[WindowKey]:
        """The accounts where somebody waits."""
        return list(self._lines)

    def _put(
        self, request: Hashable, amounts: dict[WindowKey, int], now_seconds: float
    ) -> tuple[WindowKey, ...]:
        """Let these be the amounts held for the request; it goes to the end of those that run."""
        before = self._running.pop(request, _NO_HOLD).amounts
        for key, amount in before.items():
            left = self._sums[key] - amount
            if left:
                self._sums[key] = left
            else:
                del self._sums[key]
        for key, amount in amounts.items():
            if amount:
                self._sums[key] = self._sums.get(key, 0) + amount
        if amounts:
            self._running[request] = _Hold({k: a for k, a in amounts.items() if a}, now_seconds)
        return tuple(key for key, amount in before.items() if amount > amounts.get(key, 0))

    def _short(
        self, need: Requirement, own: dict[WindowKey, int], *, may_clamp: bool, is_final: bool
    ) -> Insufficient:
        held = self.held(need.key) - own.get(need.key, 0)
        return Insufficient(need, held, _least(need.bound, may_clamp=may_clamp), is_final)

    def _stand(self, ticket: int, keys: Iterable[WindowKey]) -> None:
        places = self._positions.get(ticket, ())
        for key in keys:
            if key not in places:
                insort(self._lines.setdefault(key, []), ticket)
                places += (key,)
        self._positions[ticket] = places

    def _free(self, need: Requirement, own: dict[WindowKey, int]) -> int:
        spent = need.certain_nanousd + need.doubtful_nanousd
        return need.limit_nanousd - spent - self.held(need.key) + own.get(need.key, 0)

    def _must_wait(
        self, need: Requirement, own: dict[WindowKey, int], ticket: int, *, may_clamp: bool
    ) -> bool:
        """Whether this account has too little, or others come first there."""
        first = self.first(need.key)
        if first is not None and first < ticket:
            return True
        wanted = need.bound.enough_tokens if may_clamp else need.bound.most_tokens
        if self._free(need, own) >= need.bound.nanousd(wanted):
            return False
        # Where nobody else runs and nothing is in doubt, waiting changes nothing.
        return self.held(need.key) > own.get(need.key, 0) or need.doubtful_nanousd > 0


def _least(bound: Bound, *, may_clamp: bool) -> int:
    return bound.nanousd(bound.least_tokens if may_clamp else bound.most_tokens)


def _assigned(bound: Bound, free_nanousd: int) -> int:
    """The output tokens to take of that much room: all, else enough and no more, else what there is."""
    tokens = bound.tokens_within(free_nanousd)
    return min(tokens, bound.enough_tokens) if tokens < bound.most_tokens else tokens
