"""After routing: which deployments are left, what is held there, and what clients are told."""

from datetime import UTC, datetime

import pytest

from spendmeter.contract.decision import Why
from spendmeter_gateway.model import Deployment
from tests.unit.producers.conftest import Made
from tests.unit.producers.strict_world import CALLER, Request, World


class TestAfterRouting:
    OPENAI = Deployment("group", "openai/gpt", "openai")

    @pytest.fixture
    def world(self, make: Made) -> World:
        world = make()
        world.sets(id="provider", match={"provider": "openai"}, limit_nanousd=50, revision=2)
        return world

    async def test_a_provider_is_judged_when_it_is_chosen(self, world: World) -> None:
        request = Request()
        assert await world.asks(request) is None
        assert world.held() == 60

        assert await world.gateway.routes.admit(CALLER, self.OPENAI, request, is_admitted=True) is None
        assert request.limited_to == 40
        assert world.held() == 100, "as much on each of the two accounts"
        world.gateway.release(request.id)
        assert world.held() == 0

    async def test_a_spent_provider_is_left_out(self, world: World) -> None:
        world.spends(50, provider="openai")
        request = Request()
        assert await world.asks(request) is None
        routes = [self.OPENAI, Deployment("group", "anthropic/claude", "anthropic")]
        found = world.gateway.routes.refused(CALLER, routes)

        assert found[0] is not None
        assert found[0].why is Why.LIMIT_REACHED
        assert found[1] is None

    async def test_a_refused_route_holds_nothing_and_another_may_hold(self, world: World) -> None:
        world.spends(45, provider="openai")
        request = Request()
        assert await world.asks(request) is None
        assert await world.gateway.routes.admit(CALLER, self.OPENAI, request, is_admitted=True) is not None
        assert world.held() == 0

        other = Deployment("group", "anthropic/claude", "anthropic")
        assert await world.gateway.routes.admit(CALLER, other, request, is_admitted=True) is None
        assert world.held() == 55

    async def test_a_budget_that_a_routed_one_replaces_is_judged_after_routing(self, world: World) -> None:
        world.sets(id="provider", match={"provider": "openai"}, replaces="b", limit_nanousd=500, revision=3)
        world.spends(100, provider="anthropic")
        request = Request()
        assert await world.asks(request) is None
        routes = [self.OPENAI, Deployment("group", "anthropic/claude", "anthropic")]
        found = world.gateway.routes.refused(CALLER, routes)

        assert found[0] is None
        assert found[1] is not None

    async def test_a_dearer_fallback_holds_more(self, make: Made) -> None:
        world = make()
        request = Request(most=20)
        assert await world.asks(request) is None
        request.most = 50

        assert await world.gateway.routes.admit(CALLER, self.OPENAI, request, is_admitted=True) is None
        assert world.held() == 30, "a retry in the same group is what was asked for"
        assert (
            await world.gateway.routes.admit(
                CALLER, self.OPENAI._replace(model_group="dearer"), request, is_admitted=True
            )
            is None
        )
        assert world.held() == 60


class TestStanding:
    def standing(self, world: World) -> dict[str, str]:
        found = world.gateway.routes.standing(CALLER)
        return {} if found is None else found.headers

    async def test_the_budget_with_the_least_left_is_told(self, make: Made) -> None:
        world = make(budget_headers=True)
        world.sets(id="small", limit_nanousd=70, period="day")
        world.spends(30)

        told = self.standing(world)
        assert told["x-spendmeter-budget"] == "small"
        assert told["x-spendmeter-budget-remaining-usd"] == "0.00000004"
        assert told["x-spendmeter-budget-limit-usd"] == "0.00000007"
        assert datetime.fromisoformat(told["x-spendmeter-budget-resets-at"]) > datetime.now(UTC)

    async def test_nothing_is_told_unless_somebody_wants_it(self, world: World) -> None:
        assert self.standing(world) == {}

    async def test_a_budget_that_warns_is_always_told_even_past_its_limit(self, world: World) -> None:
        world.sets(action="warn", revision=2)
        world.spends(130)

        assert self.standing(world)["x-spendmeter-budget-remaining-usd"] == "-0.00000003"
