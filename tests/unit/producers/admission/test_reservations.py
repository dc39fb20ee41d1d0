"""Requests under strict budgets, at a gateway without Kafka: who holds, who waits, who is refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from spendmeter.contract.budget import Action
from spendmeter.contract.decision import Why
from spendmeter_gateway.outbox.sender import Acknowledged
from tests.patience import WITHIN_SECONDS
from tests.unit.producers.conftest import Made
from tests.unit.producers.strict_world import CALLER, Request, Unbounded, Unpriced, World


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

    assert await asyncio.wait_for(waiting, WITHIN_SECONDS) is None
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

    assert await asyncio.wait_for(staying, WITHIN_SECONDS) is None
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

    assert await asyncio.wait_for(waiting, WITHIN_SECONDS) is None


async def test_the_end_of_a_window_lets_in_who_waits(world: World) -> None:
    begun = datetime.now(UTC) - timedelta(seconds=59.5)
    world.sets(period="PT1M", starts_at=begun, revision=2)
    assert await world.asks(Request(most=80)) is None
    waiting = await world.waits(Request())

    assert await asyncio.wait_for(waiting, WITHIN_SECONDS) is None


async def test_a_correction_lets_in_who_waits(world: World) -> None:
    world.hears(30, 1, {0: 1})
    assert await world.asks(Request()) is None
    waiting = await world.waits(Request(most=15))
    world.hears(10, 2, {0: 2})

    assert await asyncio.wait_for(waiting, WITHIN_SECONDS) is None


async def test_what_may_be_counted_twice_counts_until_an_acknowledgement_tells(world: World) -> None:
    """60 or 80 of 100 are spent, and nothing runs: who needs 30 waits all the same."""
    world.spends(20)
    world.hears(60, 1, {0: 7})
    request = Request(most=20)
    waiting = await world.waits(request)
    world.gateway.views.acknowledged(Acknowledged(1, 0, 7, False), resent=False)

    assert await asyncio.wait_for(waiting, WITHIN_SECONDS) is None
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
    refusal = await asyncio.wait_for(waiting, WITHIN_SECONDS)

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
    ("asks", "unpriced", "held", "why"),
    [
        (Unpriced, "allow", 0, None),
        (Unpriced, "0.00000002", 20, None),
        (Unpriced, "block", 0, Why.UNBOUNDED),
        (Unbounded, "allow", 0, Why.UNBOUNDED),
        (Unbounded, "0.00000002", 20, None),
        (Unbounded, "block", 0, Why.UNBOUNDED),
    ],
)
async def test_of_what_nothing_bounds_the_budget_says_what_to_do(
    world: World, asks: type[Unbounded], unpriced: str, held: int, why: Why | None
) -> None:
    world.sets(unpriced=unpriced, revision=2)
    refusal = await world.asks(asks())

    assert (refusal.refuse.why if refusal else None) is why
    assert world.held() == held


def test_a_budget_that_refuses_is_one_however_far_its_limit(world: World) -> None:
    views = world.gateway.views

    assert views.may_refuse(CALLER.subject)
    world.sets(action=Action.WARN, revision=2)
    assert not views.may_refuse(CALLER.subject)
