"""After routing: which deployments a request may go to, what it holds there, and where its budgets stand."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from producers.admission import Decision, Refuse, Reserve
from producers.door import Door
from producers.refusal import Refusal
from producers.settings import GatewaySettings
from producers.subject import Caller
from producers.views import Standing, Views
from producers.visit import Asking

# As many requests may run at a time. One that is forgotten is not judged by model and provider.
MAX_CALLERS_REMEMBERED = 10_000


class Route(NamedTuple):
    """Where a request may go, in the words that its usage event will use."""

    model: str
    provider: str


class Routes:
    """Remembers who asked, and judges again when a deployment is chosen. Any thread may call."""

    def __init__(self, settings: GatewaySettings, views: Views, door: Door) -> None:
        self._views, self._door = views, door
        self._tells_always = settings.budget_headers
        self._callers: OrderedDict[Hashable, Caller] = OrderedDict()

    @property
    def are_followed(self) -> bool:
        """Whether anything will be asked about a request after it was admitted."""
        return self._tells_always or self._views.routed.is_followed

    def remember(self, request: Hashable, caller: Caller) -> None:
        """Keep who asks for as long as the request may run, where anything will want to know."""
        if self.are_followed:
            self._callers[request] = caller
            if len(self._callers) > MAX_CALLERS_REMEMBERED:
                self._callers.popitem(last=False)

    def refused(self, request: Hashable, routes: list[Route]) -> list[Refuse | None]:
        """For each route, why the request may not take it; None where it may."""
        caller = self._callers.get(request) if self._views.routed.has_any else None
        if caller is None:
            return [None] * len(routes)
        decisions = [self._judge(caller, route) for route in routes]
        return [decision if isinstance(decision, Refuse) else None for decision in decisions]

    def refusal(self, request: Hashable, refuse: Refuse) -> Refusal:
        """The refusal of a request that may take no route."""
        return self._door.refuse(refuse, self._callers[request])

    def is_of_interest(self, request: Hashable) -> bool:
        """Whether `admit` has anything to do for the request."""
        return request in self._callers and self._is_judged_later()

    async def admit(
        self, request: Hashable, route: Route, model_group: str | None, asking: Asking
    ) -> Refusal | None:
        """Admit a request to the deployment that was chosen, and hold what it may cost there.

        After a fallback that is another amount, and other accounts.
        """
        caller = self._callers[request]

        def decide() -> Decision:
            return self._both(caller, route)

        decision = decide()
        if isinstance(decision, Reserve):
            has_moved = model_group is not None and model_group != caller.subject.model_group
            is_held = request in self._views.strict.holds
            if is_held and not has_moved and not self._routed_strict(caller, route):
                return None
        return await self._door.admit(caller, decide, asking)

    def standing(self, request: Hashable) -> Standing | None:
        """Where the budget stands that has the least left, if clients are to be told."""
        caller = self._callers.get(request) if self._is_told() else None
        return None if caller is None else self._views.tightest(caller.subject)

    def _is_judged_later(self) -> bool:
        return self._views.routed.has_any or self._views.routed.has_strict

    def _is_told(self) -> bool:
        return self._tells_always or self._views.routed.has_tellers

    def _judge(self, caller: Caller, route: Route) -> Decision:
        subject = caller.subject._replace(model=route.model, provider=route.provider)
        return self._views.decide(subject, is_routed=True)

    def _routed_strict(self, caller: Caller, route: Route) -> bool:
        return isinstance(self._judge(caller, route), Reserve)

    def _both(self, caller: Caller, route: Route) -> Decision:
        """By the budgets of the route; those judged before it only add to what is held."""
        routed = self._judge(caller, route)
        before = self._views.decide(caller.subject)
        if not isinstance(before, Reserve):
            return routed
        if isinstance(routed, Reserve):
            return Reserve(before.accounts + routed.accounts)
        return routed if isinstance(routed, Refuse) else before
