"""Reservations: what running requests under `strict` budgets may still cost, and who waits for them. Pure.

A hold begins when a request is admitted and ends in the very step that counts its real
cost. Sums are kept per account and window, so every step is O(1) in the number of holds.
A request that does not fit waits in line: first come, first served, separately in each account.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.spend.tracker import WindowKey


class Requirement(NamedTuple):
    """The amount that one account must have left in one window for a request."""

    key: WindowKey
    limit_nanousd: int
    certain_nanousd: int
    """Spent beyond doubt."""
    doubtful_nanousd: int
    """Perhaps spent as well. It counts as spent here until an acknowledgement decides."""
    bound: Bound
    """The most that the request costs this account; its tokens are the same for each account."""


class Reserved(NamedTuple):
    """The request may go ahead with that many output tokens per answer; its possible cost is held."""

    output_tokens: int
    is_clamped: bool
    """Whether they are fewer than the request may use: then it must be given that maximum."""
    freed: tuple[WindowKey, ...]
    """Accounts on which less is held than before, for a request that already had a hold."""


class Queued(NamedTuple):
    """The request waits in line: it may fit once running ones have settled."""

    needs: tuple[Requirement, ...]
    """The accounts that have too little."""


class Insufficient(NamedTuple):
    """The request cannot go ahead; says what is missing."""

    need: Requirement
    held_nanousd: int
    least_nanousd: int
    """The least that it would have to hold."""
    is_final: bool
    """Whether it would not fit even if everything that runs cost nothing."""


class _Hold(NamedTuple):
    amounts: dict[WindowKey, int]
    since_seconds: float


_NO_HOLD = _Hold({}, 0.0)


class Reservations:
    """Every hold of this gateway. No I/O, clock or lock: the caller has these."""

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
        """A number in the order of arrival; a request keeps it however often it tries."""
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
        """Hold the request's possible cost on all of these accounts, or on none, instead of what it held.

        With room for `enough_tokens` it goes ahead at once. With room for fewer, it waits for
        running requests to settle; when none is left, or its wait is over, it goes ahead with the room there
        is.
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
        """End the request's hold. Returns the accounts that this frees."""
        return self._put(request, {}, 0.0)

    def expire(self, before_seconds: float) -> Iterator[tuple[WindowKey, ...]]:
        """Release holds from before that moment: the gateway missed the end of their requests."""
        while self._running:
            request, hold = next(iter(self._running.items()))
            if hold.since_seconds >= before_seconds:
                return
            yield self.release(request)

    def leave(self, ticket: int) -> tuple[WindowKey, ...]:
        """Leave every line. Returns the accounts in which somebody else may now be first."""
        keys = self._positions.pop(ticket, ())
        for key in keys:
            line = self._lines[key]
            del line[bisect_left(line, ticket)]
            if not line:
                del self._lines[key]
        return keys

    def first(self, key: WindowKey) -> int | None:
        """The ticket of the first in line there."""
        line = self._lines.get(key)
        return line[0] if line else None

    def lines(self) -> list[WindowKey]:
        """The accounts where somebody waits."""
        return list(self._lines)

    def _put(
        self, request: Hashable, amounts: dict[WindowKey, int], now_seconds: float
    ) -> tuple[WindowKey, ...]:
        """Set the amounts held for the request, and move it to the end of the running ones."""
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
        # If nobody else runs and nothing is in doubt, waiting changes nothing.
        return self.held(need.key) > own.get(need.key, 0) or need.doubtful_nanousd > 0


def _least(bound: Bound, *, may_clamp: bool) -> int:
    return bound.nanousd(bound.least_tokens if may_clamp else bound.most_tokens)


def _assigned(bound: Bound, free_nanousd: int) -> int:
    """The output tokens for that much room: all; or else enough and no more; or else what fits."""
    tokens = bound.tokens_within(free_nanousd)
    return min(tokens, bound.enough_tokens) if tokens < bound.most_tokens else tokens
