"""Admission after routing: may a call go to the chosen deployment, and what does it hold there."""

from collections.abc import Sequence

from spendmeter.domain.matching import Subject
from spendmeter_gateway.admission.controller import AdmissionController
from spendmeter_gateway.admission.decide import Decision, Denied, Reserve
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.admission.reservation_attempt import AdmissionRequest
from spendmeter_gateway.admission.state import BudgetHeadroom, BudgetScope, GatewayState
from spendmeter_gateway.model import Caller, Deployment
from spendmeter_gateway.settings import GatewaySettings


class RouteAdmission:
    """Judges each call where it really goes. Any thread may call."""

    def __init__(
        self, settings: GatewaySettings, views: GatewayState, controller: AdmissionController
    ) -> None:
        self._views, self._controller = views, controller
        self._always_notifies = settings.budget_headers

    @property
    def are_judged(self) -> bool:
        """Whether a call's deployment can change the decision about its request."""
        return self._views.routed.has_any or self._views.routed.has_strict

    def refused(self, caller: Caller, deployments: Sequence[Deployment]) -> list[Denied | None]:
        """For each deployment the reason why the caller may not use it; None if it may."""
        if not self._views.routed.has_any:
            return [None] * len(deployments)
        decisions = [self._judge(subject_at(caller, one), BudgetScope.AFTER) for one in deployments]
        return [decision if isinstance(decision, Denied) else None for decision in decisions]

    def refusal(self, refuse: Denied, caller: Caller) -> Refusal:
        """The refusal of a request that has no deployment left."""
        return self._controller.refuse(refuse, caller)

    def admits_at_once(self, caller: Caller, deployment: Deployment) -> bool:
        """Whether `admit` is sure to let the call through."""
        return not self.are_judged and self._views.admits(subject_at(caller, deployment))

    async def admit(
        self, caller: Caller, deployment: Deployment, asking: AdmissionRequest, *, is_admitted: bool
    ) -> Refusal | None:
        """Admit a call to the chosen deployment, and hold its possible cost there.

        `is_admitted`: its request was admitted a moment ago, under the budgets that could be judged then.
        After a retry or fallback all budgets are judged, and the hold has another amount on other accounts.
        """
        subject = subject_at(caller, deployment)
        is_same = is_admitted and deployment.model_group == caller.subject.model_group

        def decide() -> Decision:
            return self._both(subject) if is_same else self._judge(subject, BudgetScope.ALL)

        decision = decide()
        if (
            isinstance(decision, Reserve)
            and is_same
            and asking.id in self._views.strict.holds
            and not isinstance(self._judge(subject, BudgetScope.AFTER), Reserve)
        ):
            return None
        return await self._controller.admit(caller._replace(subject=subject), decide, asking)

    def standing(self, caller: Caller) -> BudgetHeadroom | None:
        """The state of the budget with the least left, if clients see it."""
        return self._views.tightest(caller.subject) if self.are_shown else None

    @property
    def are_shown(self) -> bool:
        """Whether clients see what is left of their budgets."""
        return self._always_notifies or self._views.routed.has_tellers

    def _judge(self, subject: Subject, scope: BudgetScope) -> Decision:
        return self._views.decide(subject, scope=scope)

    def _both(self, subject: Subject) -> Decision:
        """Judge by the deployment's budgets; those judged before routing only add to the hold."""
        routed = self._judge(subject, BudgetScope.AFTER)
        before = self._judge(subject, BudgetScope.BEFORE)
        if not isinstance(before, Reserve):
            return routed
        if isinstance(routed, Reserve):
            return Reserve(before.accounts + routed.accounts)
        return routed if isinstance(routed, Denied) else before


def subject_at(caller: Caller, deployment: Deployment) -> Subject:
    """The subject of a call to that deployment: the same as that of its usage event."""
    subject = caller.subject
    tags = subject.tags + tuple(tag for tag in deployment.tags if tag not in subject.tags)
    return subject._replace(
        model=deployment.model,
        provider=deployment.provider,
        model_group=deployment.model_group or subject.model_group,
        tags=tags,
    )
