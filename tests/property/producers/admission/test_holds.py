"""Holds against an oracle: any order of arrivals, settlements, departures, foreign spend and raises."""

from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spendmeter_gateway.admission.cost_bound import Bound
from spendmeter_gateway.admission.reservations import (
    Insufficient,
    Queued,
    Requirement,
    Reservations,
    Reserved,
)
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO
from spendmeter_gateway.spend.tracker import WindowKey

START = datetime(2026, 11, 22, tzinfo=UTC)
ACCOUNTS: list[WindowKey] = [(name, START) for name in ("a", "b")]


@st.composite
def bounds(draw: st.DrawFn) -> Bound:
    least, enough, most = sorted(draw(st.tuples(*[st.integers(0, 20)] * 3)))
    base, token = draw(st.integers(0, 30)), draw(st.integers(0, 4))
    return Bound(base * FEMTO_PER_NANO, token * FEMTO_PER_NANO, most, enough, least, True)


class World(RuleBasedStateMachine):
    """One gateway that settles what it admits, for real costs up to what was held."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = Reservations()
        self.limits = dict.fromkeys(ACCOUNTS, 100)
        self.spent = dict.fromkeys(ACCOUNTS, 0)
        self.running: dict[int, dict[WindowKey, int]] = {}
        self.line: dict[int, tuple[Bound, list[WindowKey], bool]] = {}
        self.blocked: dict[int, set[WindowKey]] = {}
        self.since: dict[int, float] = {}
        self.clock = 0.0

    @rule(
        bound=bounds(),
        keys=st.lists(st.sampled_from(ACCOUNTS), min_size=1, unique=True),
        clamps=st.booleans(),
    )
    def a_request_arrives(self, bound: Bound, keys: list[WindowKey], clamps: bool) -> None:
        self._attempt(self.holds.ticket(), bound, keys, clamps, waits=True)

    @precondition(lambda self: self.line)
    @rule(data=st.data(), waits=st.booleans())
    def one_who_waits_looks_again(self, data: st.DataObject, waits: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.line)))
        self._attempt(ticket, *self.line[ticket], waits=waits)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def one_who_waits_leaves(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.line)))
        self._left(ticket)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), share=st.floats(0, 1))
    def a_running_request_settles(self, data: st.DataObject, share: float) -> None:
        request = data.draw(st.sampled_from(sorted(self.running)))
        amounts = self._ended(request)
        for key, amount in amounts.items():
            self.spent[key] += int(amount * share)
        self.holds.release(request)
        assert self.holds.release(request) == (), "once is enough"

    @precondition(lambda self: self.running)
    @rule()
    def the_oldest_hold_expires(self) -> None:
        oldest, since = min(self.since.items(), key=lambda item: item[1])
        assert list(self.holds.expire(since)) == []
        assert len(list(self.holds.expire(since + 1))) == 1
        self._ended(oldest)

    @rule(key=st.sampled_from(ACCOUNTS), amount=st.integers(1, 100))
    def a_limit_is_raised(self, key: WindowKey, amount: int) -> None:
        self.limits[key] += amount

    @invariant()
    def what_is_known_and_held_stays_within_the_limit(self) -> None:
        for key in ACCOUNTS:
            assert self.spent[key] + self.holds.held(key) <= self.limits[key]

    @invariant()
    def the_sum_of_the_holds_is_that_of_the_running_requests(self) -> None:
        assert len(self.holds) == len(self.running)
        for key in ACCOUNTS:
            assert self.holds.held(key) == sum(held.get(key, 0) for held in self.running.values()) >= 0

    @invariant()
    def lines_are_in_the_order_of_arrival_and_hold_those_who_wait(self) -> None:
        assert {key for keys in self.blocked.values() for key in keys} == set(self.holds.lines())
        for key in self.holds.lines():
            waiting = [ticket for ticket, keys in self.blocked.items() if key in keys]
            assert self.holds.first(key) == min(waiting)

    @invariant()
    def whoever_is_first_everywhere_and_has_room_for_all_is_let_in(self) -> None:
        for ticket, (bound, keys, clamps) in list(self.line.items()):
            is_first = all(self.holds.first(key) in (None, ticket) for key in keys)
            room = min(self.limits[key] - self.spent[key] - self.holds.held(key) for key in keys)
            if is_first and room >= bound.nanousd(bound.most_tokens):
                assert self._attempt(ticket, bound, keys, clamps, waits=True)

    def teardown(self) -> None:
        """Once everything has ended, nothing is left over."""
        for request in list(self.running):
            self.holds.release(request)
        for ticket in list(self.line):
            self._left(ticket)
        assert len(self.holds) == 0
        assert [self.holds.held(key) for key in ACCOUNTS] == [0, 0]
        assert self.holds.lines() == []
        assert vars(self.holds)["_sums"] == vars(self.holds)["_positions"] == {}

    def _attempt(
        self, ticket: int, bound: Bound, keys: list[WindowKey], clamps: bool, *, waits: bool
    ) -> bool:
        room = {key: self.limits[key] - self.spent[key] - self.holds.held(key) for key in keys}
        needs = [Requirement(key, self.limits[key], self.spent[key], 0, bound) for key in keys]
        older = [t for t, line in self.blocked.items() if t < ticket and line & set(keys)]
        outcome = self.holds.reserve(ticket, needs, ticket, self.clock, may_clamp=clamps, waits=waits)
        least = bound.nanousd(bound.least_tokens if clamps else bound.most_tokens)
        if isinstance(outcome, Reserved):
            assert not (waits and older), "nobody overtakes"
            amount = bound.nanousd(outcome.output_tokens)
            assert least <= amount <= min(room.values())
            assert outcome.is_clamped == (outcome.output_tokens < bound.most_tokens)
            assert clamps or not outcome.is_clamped
            self._left(ticket)
            self.since[ticket] = self.clock
            self.clock += 1
            self.running[ticket] = {key: amount for key in keys if amount}
        elif isinstance(outcome, Queued):
            assert waits
            self.line[ticket] = (bound, keys, clamps)
            self.blocked.setdefault(ticket, set()).update(need.key for need in outcome.needs)
        else:
            assert isinstance(outcome, Insufficient)
            assert outcome.least_nanousd == least
            if outcome.is_final:
                assert any(self.limits[key] - self.spent[key] < least for key in keys)
            else:
                assert not waits or min(room.values()) < least
            self._left(ticket)
        return isinstance(outcome, Reserved)

    def _ended(self, request: int) -> dict[WindowKey, int]:
        del self.since[request]
        return self.running.pop(request)

    def _left(self, ticket: int) -> None:
        self.holds.leave(ticket)
        self.line.pop(ticket, None)
        self.blocked.pop(ticket, None)


TestHolds = World.TestCase
TestHolds.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
