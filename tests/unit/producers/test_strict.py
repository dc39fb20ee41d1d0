"""Requests under strict budgets, at a gateway without Kafka: who holds, who waits, who is refused."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from producers.admission import Why
from producers.estimate import FEMTO_PER_NANO, Bound
from producers.gateway import Gateway
from producers.mapping import UsageDraft
from producers.outbox import Outbox
from producers.refusal import Refusal
from producers.routes import Route
from producers.sender import Acknowledged
from producers.settings import GatewaySettings
from producers.subject import Caller
from spendmeter.contract.budget import Action, Budget
from spendmeter.contract.ids import uuid7
from spendmeter.contract.matching import Subject
from spendmeter.contract.money import NanoUsd
from spendmeter.contract.signal import Signal, State
from spendmeter.contract.usage import CostSource
from spendmeter.contract.window import window_of

NOW = datetime.now(UTC)
CALLER = Caller(Subject(key="k", model_group="group"), "k")


class Request:
    """Costs 10 nano-USD and 1 for each output token."""

    def __init__(self, most: int = 50, enough: int | None = None, counted: int = 10, base: int = 10) -> None:
        self.id: UUID = uuid7(0)
        self.most, self.enough = most, most if enough is None else enough
        self.base, self.counted = base, counted
        self.limited_to: int | None = None

    def bound(self) -> Bound | None:
        return Bound(self.base * FEMTO_PER_NANO, FEMTO_PER_NANO, self.most, self.enough, 1, True)

    async def count(self) -> bool:
        is_tighter, self.base = self.counted < self.base, self.counted
        return is_tighter

    def limit(self, output_tokens: int) -> None:
        self.limited_to = output_tokens


class Unbounded(Request):
    def bound(self) -> Bound | None:
        return None


class World:
    """A gateway, its budgets, and tasks that ask it."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.gateway = Gateway(GatewaySettings(data_dir=root, gateway="g1", **settings))
        self.outbox = self.gateway._recorder.outbox = Outbox.open(root, max_bytes=10**8)
        self.gateway.views.budgets.caught_up.set()
        self.gateway.views.signals.caught_up.set()
        self.holds = self.gateway.views.strict.holds

    def sets(self, **changes: Any) -> None:
        given = {
            "id": "b",
            "match": {"key": "*"},
            "limit_nanousd": 100,
            "period": "lifetime",
            "enforcement": "strict",
            "updated_at": NOW,
        }
        budget = Budget.model_validate(given | changes)
        with self.gateway.views.lock:
            self.gateway.views.budgets.book.put(budget)
            self.gateway.views.budget_changed(budget.id, budget)
        self.gateway.views.strict.wake_all()

    async def asks(self, request: Request) -> Refusal | None:
        return await self.gateway.admit(CALLER, asking=request)

    async def waits(self, request: Request) -> "asyncio.Task[Refusal | None]":
        """Ask, and be seen to wait."""
        task = asyncio.create_task(self.asks(request))
        before = len(self.gateway.views.strict._waiting)
        async with asyncio.timeout(10):
            while len(self.gateway.views.strict._waiting) == before:
                assert not task.done(), task.result()
                await asyncio.sleep(0)
        return task

    def spends(self, cost: int, ends: Request | None = None, **fields: Any) -> None:
        given = {
            "event_id": uuid7(0),
            "occurred_at": datetime.now(UTC),
            "started_at": NOW,
            "key": "k",
            "cost_nanousd": cost,
            "cost_source": CostSource.LITELLM,
        }
        self.gateway.record(UsageDraft(given | fields), ends=ends.id if ends else None)

    def hears(self, spent: int, version: int, watermark: dict[int, int]) -> None:
        budget = self.gateway.views.budgets.book.get("b")
        assert budget is not None
        window = window_of(budget, NOW)
        assert window is not None
        self.gateway.views._take_signal(
            "b|key=k",
            Signal(
                budget_id="b",
                account="b|key=k",
                subject={"key": "k"},
                window_start=window.start,
                window_end=window.end,
                limit_nanousd=NanoUsd(100),
                spent_nanousd=NanoUsd(spent),
                state=State.OK,
                watermark=watermark,
                revision=1,
                version=version,
                emitted_at=NOW,
            ),
        )

    def held(self) -> int:
        return sum(self.holds._sums.values())


Made = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    made: list[World] = []

    def one(**settings: Any) -> World:
        world = World(tmp_path, **settings)
        world.sets()
        made.append(world)
        return world

    yield one
    for world in made:
        world.outbox.close()
        world.gateway._loop.close()


@pytest.fixture
def world(make: Made) -> World:
    return make()


async def test_what_fits_is_held_until_its_cost_is_recorded(world: World) -> None:
    request = Request()
    assert await world.asks(request) is None
    assert world.held() == 60

    world.spends(7, ends=request)
    assert world.held() == 0
    assert request.limited_to is None


async def test_the_cost_of_another_event_ends_nothing(world: World) -> None:
    assert await world.asks(Request()) is None
    world.spends(7)

    assert world.held() == 60


async def test_who_fits_once_another_settles_waits_for_that(world: World) -> None:
    first, second = Request(), Request()
    assert await world.asks(first) is None
    waiting = await world.waits(second)
    world.spends(40, ends=first)

    assert await asyncio.wait_for(waiting, 10) is None
    assert world.held() == 60


async def test_who_came_first_goes_first(world: World) -> None:
    running = Request(most=80)
    assert await world.asks(running) is None
    order: list[str] = []
    tasks = []
    for name, most in (("large", 60), ("small", 1)):
        task = await world.waits(Request(most=most))
        task.add_done_callback(partial(lambda name, _: order.append(name), name))
        tasks.append(task)
    world.gateway.release(running.id)

    assert await asyncio.gather(*tasks) == [None, None]
    assert order == ["large", "small"]


async def test_a_client_that_leaves_makes_way(world: World) -> None:
    running = Request(most=60)
    assert await world.asks(running) is None
    leaving, staying = await world.waits(Request(most=60)), await world.waits(Request(most=5))
    leaving.cancel()

    assert await asyncio.wait_for(staying, 10) is None
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert world.held() == 85
    assert world.holds.lines() == []


async def test_an_answer_is_limited_to_what_is_left_where_nothing_else_runs(world: World) -> None:
    world.spends(70)
    request = Request()

    assert await world.asks(request) is None
    assert request.limited_to == 20
    assert world.held() == 30


@pytest.mark.parametrize(("spent", "is_admitted"), [(89, True), (90, False), (99, False)])
async def test_what_is_left_must_pay_for_one_token_at_least(
    world: World, spent: int, is_admitted: bool
) -> None:
    world.spends(spent)
    refusal = await world.asks(Request())

    assert (refusal is None) == is_admitted
    if refusal is not None:
        assert refusal.refuse.why is Why.NO_ROOM
        assert (refusal.refuse.spent_nanousd, refusal.refuse.limit_nanousd) == (spent, 100)
        assert refusal.refuse.least_nanousd == 11
        assert f"spent_nanousd={spent} limit_nanousd=100" in refusal.facts
        assert "held_nanousd=0 least_nanousd=11" in refusal.facts
        assert "Budget would be exceeded! Key=k" in refusal.message
        assert world.held() == 0


async def test_at_the_limit_the_refusal_is_that_of_every_budget(world: World) -> None:
    world.spends(100)
    refusal = await world.asks(Request())

    assert refusal is not None
    assert refusal.refuse.why is Why.LIMIT_REACHED


async def test_who_named_no_maximum_is_content_with_enough(world: World) -> None:
    """Rather than wait for all of it, or take all that is left."""
    first, second = Request(most=1000, enough=20), Request(most=1000, enough=20)
    assert await world.asks(first) is None
    assert await world.asks(second) is None

    assert (first.limited_to, second.limited_to) == (20, 20)
    assert world.held() == 60


async def test_without_clamp_what_cannot_fit_is_refused_at_once_and_left_as_it_is(make: Made) -> None:
    world = make(strict_clamp=False)
    world.spends(41)
    request = Request()
    refusal = await world.asks(request)

    assert refusal is not None
    assert refusal.refuse.why is Why.NO_ROOM
    assert request.limited_to is None
    assert await world.asks(Request(most=49)) is None


async def test_who_has_waited_long_enough_takes_what_there_is_or_is_refused(make: Made) -> None:
    world = make(strict_wait_ms=50)
    assert await world.asks(Request(most=60)) is None
    second, third = Request(), Request()
    assert await world.asks(second) is None
    assert second.limited_to == 20

    refusal = await world.asks(third)
    assert refusal is not None
    assert refusal.refuse.why is Why.NO_ROOM
    assert refusal.refuse.held_nanousd == 100
    assert refusal.headers["retry-after"] == "1", "what is held is settled soon"


async def test_tokens_are_counted_only_where_that_may_change_the_decision(world: World) -> None:
    loose = Request(most=50, base=40, counted=10)
    assert await world.asks(loose) is None
    assert loose.base == 40, "it fits as it is"
    world.spends(30, ends=loose)

    tight = Request(most=50, base=40, counted=10)
    assert await world.asks(tight) is None
    assert tight.base == 10
    assert tight.limited_to is None


async def test_a_raise_lets_in_who_waits(world: World) -> None:
    assert await world.asks(Request(most=80)) is None
    waiting = await world.waits(Request())
    world.sets(limit_nanousd=200, revision=2)

    assert await asyncio.wait_for(waiting, 10) is None


async def test_the_end_of_a_window_lets_in_who_waits(world: World) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=59.5)
    world.sets(period="PT1M", starts_at=begun, revision=2)
    assert await world.asks(Request(most=80)) is None
    waiting = await world.waits(Request())

    assert await asyncio.wait_for(waiting, 10) is None


async def test_a_correction_lets_in_who_waits(world: World) -> None:
    world.hears(30, 1, {0: 1})
    assert await world.asks(Request()) is None
    waiting = await world.waits(Request(most=15))
    world.hears(10, 2, {0: 2})

    assert await asyncio.wait_for(waiting, 10) is None


async def test_what_may_be_counted_twice_counts_until_an_acknowledgement_tells(world: World) -> None:
    """60 or 80 of 100 are spent, and nothing runs: who needs 30 waits all the same."""
    world.spends(20)
    world.hears(60, 1, {0: 7})
    request = Request(most=20)
    waiting = await world.waits(request)
    world.gateway.views.acknowledged(Acknowledged(1, 0, 7, False), resent=False)

    assert await asyncio.wait_for(waiting, 10) is None
    assert request.limited_to is None
    assert world.held() == 30


async def test_in_doubt_a_strict_budget_is_not_overspent(make: Made) -> None:
    world = make(strict_wait_ms=50)
    world.spends(20)
    world.hears(75, 1, {0: 7})
    refusal = await world.asks(Request())

    assert refusal is not None
    assert refusal.refuse.why is Why.NO_ROOM
    assert "doubtful_nanousd=20" in refusal.facts


async def test_spend_that_comes_meanwhile_refuses_who_waits(world: World) -> None:
    running = Request(most=60)
    assert await world.asks(running) is None
    waiting = await world.waits(Request())
    world.spends(95, ends=running)
    refusal = await asyncio.wait_for(waiting, 10)

    assert refusal is not None
    assert refusal.refuse.spent_nanousd == 95


async def test_a_request_fits_into_all_of_its_budgets_or_holds_in_none(world: World) -> None:
    world.sets(id="small", limit_nanousd=5)
    refusal = await world.asks(Request())

    assert refusal is not None
    assert refusal.headers["x-spendmeter-budget"] == "small"
    assert world.held() == 0


async def test_a_hold_whose_end_escaped_is_dropped_in_the_end(make: Made) -> None:
    world = make(hold_max_seconds=10.0)
    assert await world.asks(Request()) is None
    now = asyncio.get_running_loop().time()
    world.gateway.views.strict.expire(now)
    assert world.held() == 60

    world.gateway.views.strict.expire(now + 11)
    assert world.held() == 0


@pytest.mark.parametrize("action", [Action.WARN, Action.OBSERVE])
async def test_budgets_that_do_not_block_hold_nothing(world: World, action: Action) -> None:
    world.sets(action=action, revision=2)
    world.spends(200)

    assert await world.asks(Request()) is None
    assert world.held() == 0


@pytest.mark.parametrize(
    ("unpriced", "held", "why"), [("allow", 0, None), ("0.00000002", 20, None), ("block", 0, Why.UNBOUNDED)]
)
async def test_of_what_nothing_bounds_the_budget_says_what_to_do(
    world: World, unpriced: str, held: int, why: Why | None
) -> None:
    world.sets(unpriced=unpriced, revision=2)
    refusal = await world.asks(Unbounded())

    assert (refusal.refuse.why if refusal else None) is why
    assert world.held() == held


class TestAfterRouting:
    OPENAI = Route("openai/gpt", "openai")

    @pytest.fixture
    def world(self, make: Made) -> World:
        world = make()
        world.sets(id="provider", match={"provider": "openai"}, limit_nanousd=50, revision=2)
        return world

    async def test_a_provider_is_judged_when_it_is_chosen(self, world: World) -> None:
        request = Request()
        assert await world.asks(request) is None
        assert world.held() == 60

        assert await world.gateway.routes.admit(request.id, self.OPENAI, "group", request) is None
        assert request.limited_to == 40
        assert world.held() == 100, "as much on each of the two accounts"
        world.gateway.release(request.id)
        assert world.held() == 0

    async def test_a_spent_provider_is_left_out(self, world: World) -> None:
        world.spends(50, provider="openai")
        request = Request()
        assert await world.asks(request) is None
        routes = [self.OPENAI, Route("anthropic/claude", "anthropic")]
        found = world.gateway.routes.refused(request.id, routes)

        assert found[0] is not None
        assert found[0].why is Why.LIMIT_REACHED
        assert found[1] is None

    async def test_a_refused_route_holds_nothing_and_another_may_hold(self, world: World) -> None:
        world.spends(45, provider="openai")
        request = Request()
        assert await world.asks(request) is None
        assert await world.gateway.routes.admit(request.id, self.OPENAI, "group", request) is not None
        assert world.held() == 0

        other = Route("anthropic/claude", "anthropic")
        assert await world.gateway.routes.admit(request.id, other, "group", request) is None
        assert world.held() == 55

    async def test_a_budget_that_a_routed_one_replaces_is_judged_after_routing(self, world: World) -> None:
        world.sets(id="provider", match={"provider": "openai"}, replaces="b", limit_nanousd=500, revision=3)
        world.spends(100, provider="anthropic")
        request = Request()
        assert await world.asks(request) is None
        routes = [self.OPENAI, Route("anthropic/claude", "anthropic")]
        found = world.gateway.routes.refused(request.id, routes)

        assert found[0] is None
        assert found[1] is not None

    async def test_a_dearer_fallback_holds_more(self, make: Made) -> None:
        world = make()
        request = Request(most=20)
        assert await world.asks(request) is None
        request.most = 50

        assert await world.gateway.routes.admit(request.id, self.OPENAI, "group", request) is None
        assert world.held() == 30, "a retry in the same group is what was asked for"
        assert await world.gateway.routes.admit(request.id, self.OPENAI, "dearer", request) is None
        assert world.held() == 60


class TestStanding:
    def standing(self, world: World) -> dict[str, str]:
        found = world.gateway.routes.standing("request")
        return {} if found is None else found.headers

    async def test_the_budget_with_the_least_left_is_told(self, make: Made) -> None:
        world = make(budget_headers=True)
        world.sets(id="small", limit_nanousd=70, period="day")
        world.spends(30)
        world.gateway.routes.remember("request", CALLER)

        told = self.standing(world)
        assert told["x-spendmeter-budget"] == "small"
        assert told["x-spendmeter-budget-remaining-usd"] == "0.00000004"
        assert told["x-spendmeter-budget-limit-usd"] == "0.00000007"
        assert datetime.fromisoformat(told["x-spendmeter-budget-resets-at"]) > datetime.now(UTC)

    async def test_nothing_is_told_unless_somebody_wants_it(self, world: World) -> None:
        world.gateway.routes.remember("request", CALLER)
        assert self.standing(world) == {}

    async def test_a_budget_that_warns_is_always_told_even_past_its_limit(self, world: World) -> None:
        world.sets(action="warn", revision=2)
        world.spends(130)
        world.gateway.routes.remember("request", CALLER)

        assert self.standing(world)["x-spendmeter-budget-remaining-usd"] == "-0.00000003"
