"""Budgets for a program that uses LiteLLM without a proxy: admission before a call, recording after it.

    meter = sdk.attach()
    with sdk.subject(user="ada", tags=["nightly"]):
        await litellm.acompletion(...)          # raises litellm.BudgetExceededError once ada has spent hers
    completion = meter.guarded(litellm.completion)   # the blocking calls: see there

What LiteLLM 1.106.2 runs without a proxy: `async_pre_call_deployment_hook` before every call of
`acompletion`, `aembedding`, `aresponses`, `atext_completion`, `anthropic_messages` and of an
asynchronous Router, and what it raises reaches the caller. Before a blocking call it runs
`log_pre_api_call` only and swallows what that raises, so there nothing in LiteLLM can stop one.
"""

import asyncio
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import litellm
from litellm.integrations.custom_logger import CustomLogger

from spendmeter.contract.money import NanoUsd, to_usd
from spendmeter.domain.matching import Subject
from spendmeter.retry import SpendThresholds
from spendmeter.values.ids import made_at, uuid7
from spendmeter_gateway.admission.cost_bound import Model
from spendmeter_gateway.exchange import Call, Exchange
from spendmeter_gateway.gateway import ERRORS, Gateway, the_gateway
from spendmeter_gateway.litellm.admission.admission_request import LitellmAdmissionRequest
from spendmeter_gateway.litellm.fields import finish_time, mapping, text_or_none
from spendmeter_gateway.litellm.models import deployment_of, model_group_of, model_of, named
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall, read_log_event, request_id_of
from spendmeter_gateway.litellm.payload.provider_objects import sighting_in
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.litellm.recording.call_drafts import CallDrafts
from spendmeter_gateway.litellm.recording.objects import bill_now
from spendmeter_gateway.litellm.releases import refuse_compromised
from spendmeter_gateway.litellm.sdk_calls import BudgetRefused, Calls, subject_for
from spendmeter_gateway.model import Caller, Deployment, UsageDraft
from spendmeter_gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_NOBODY = Subject()
_subject: contextvars.ContextVar[Subject] = contextvars.ContextVar("spendmeter_subject", default=_NOBODY)


@contextmanager
def subject(*, tags: Iterable[str] = (), **dimensions: str) -> Iterator[None]:
    """Whom the calls inside are for: key, user, team, organization, project, end_user, session, tags.

    Within another one it adds to it. Raises TypeError: no such dimension.
    """
    token = _subject.set(subject_for(_subject.get(), tuple(tags), dimensions))
    try:
        yield
    finally:
        _subject.reset(token)


def attach(fractions: SpendThresholds | None = None) -> "SpendmeterSdk":
    """Put the callback first among LiteLLM's, and begin to read budgets."""
    meter = SpendmeterSdk(fractions)
    litellm.callbacks = [meter, *litellm.callbacks]
    return meter


class SpendmeterSdk(CustomLogger):  # type: ignore[misc]
    """The callback; `fractions` are notified as budgets are spent, in the thread that calls or records.

    Raises pydantic.ValidationError: the environment (`SPENDMETER_…`) is not right.
    """

    def __init__(self, fractions: SpendThresholds | None = None) -> None:
        refuse_compromised()
        super().__init__()
        self._settings = GatewaySettings()
        self._fractions = fractions
        self._calls = Calls()
        self._gateway()

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: object
    ) -> dict[str, Any] | None:
        """Admit a call. Raises BudgetRefused, a litellm.BudgetExceededError."""
        return await self._admitted(kwargs, str(getattr(call_type, "value", call_type)))

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: object
    ) -> None:
        """Count what an asynchronous call was answered at; streams count once they are logged."""
        self._answered(request_data, response, str(getattr(call_type, "value", call_type)))

    def guarded(self, function: Callable[P, T]) -> Callable[P, T]:
        """A blocking call, such as `litellm.completion` or `router.completion`, admitted before it is made.

        Raises BudgetRefused. In a thread that runs a loop it blocks that loop, as the call itself does.
        """
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            given = dict(zip(names, args, strict=False)) | kwargs
            is_router = isinstance(getattr(function, "__self__", None), litellm.Router)
            admitted = _finished(self._admitted(given, function.__name__, is_router=is_router))
            answer = function(**(admitted or given))  # type: ignore[call-arg]
            if admitted is not None:
                self._answered(admitted, answer, function.__name__, is_router=is_router)
            return answer

        return call

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Record what an asynchronous call used."""
        self._record(kwargs, response_obj, end_time)

    async_log_failure_event = async_log_success_event
    """What a failed one used, if anything; nothing is held for it now."""

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """The same for a blocking call: of the two hooks LiteLLM calls one."""
        self._record(kwargs, response_obj, end_time)

    log_failure_event = log_success_event
    """The same; a refused call is reported to both, and is no event."""

    def close(self) -> None:
        """Leave LiteLLM's callbacks and hand Kafka what is recorded, bounded. It happens at exit as well."""
        litellm.callbacks = [callback for callback in litellm.callbacks if callback is not self]
        self._gateway().stop()

    def _gateway(self) -> Gateway:
        return the_gateway(self._settings)

    async def _admitted(
        self, kwargs: Mapping[str, Any], call_type: str, *, is_router: bool = False
    ) -> dict[str, Any] | None:
        """The arguments to call with; None where the call was admitted before."""
        if self._calls.knows(request_id_of(kwargs)):
            return None
        refusal = None
        request_id = uuid7(time.time_ns() // 1_000_000)
        data = self._calls.marked(kwargs, request_id, call_type)
        try:
            group = str(kwargs.get("model")) if is_router else model_group_of(kwargs)
            who = self._calls.subject(_subject.get(), kwargs, group, self._settings.gateway)
            caller = Caller(who, who.user or who.key or "none")
            self._calls.put(request_id, caller)
            book = self._gateway().price_book
            asking = LitellmAdmissionRequest(
                request_id,
                data,
                call_type,
                lambda: [model_of(None, deployment_of(data), str(data.get("model") or ""), book)],
                self._settings,
            )
            gateway = self._gateway()
            refusal = await gateway.admit(caller, tuple, asking)
            if refusal is None and not is_router and gateway.routes.are_judged:
                refusal = await gateway.routes.admit(
                    caller, _deployment(kwargs, group), asking, is_admitted=True
                )
            self._see(who)
        except Exception:
            ERRORS.labels("admission").inc()
            log.exception("admission failed; the call is let through")
        if refusal is not None:
            self._calls.pop(request_id)
            raise BudgetRefused(refusal)
        return data

    def _record(self, kwargs: dict[str, Any], response: object, end_time: object) -> None:
        logged = read_log_event(kwargs)
        request_id = logged.request_id
        caller = self._calls.pop(request_id)
        try:
            now = datetime.now(UTC)
            finished = finish_time(end_time, now)
            event_id = request_id or uuid7(time.time_ns() // 1_000_000)
            draft = self._drafted(logged, response, caller, event_id, finished)
            event = self._gateway().settle(draft, request_id)
            if event is not None and caller is not None:
                self._see(caller.subject._replace(model=event.model, provider=event.provider))
        except Exception:
            ERRORS.labels("recording").inc()
            log.exception("an event could not be recorded")
            self._gateway().settle(None, request_id)

    def _answered(
        self, arguments: Mapping[str, Any], answer: object, call_type: str, *, is_router: bool = False
    ) -> None:
        """An answer counts when it is given: LiteLLM logs it later, on a thread of its own."""
        try:
            request_id = request_id_of(arguments)
            caller = self._calls.get(request_id)
            if request_id is None or caller is None or getattr(answer, "usage", None) is None:
                return
            group = str(arguments.get("model")) if is_router else model_group_of(arguments)
            deployment = _deployment(arguments, group)
            if is_router:
                served_by = mapping(getattr(answer, "_hidden_params", None)).get("model_id")
                deployment = deployment._replace(id=text_or_none(served_by))
            call = Exchange().open(caller, deployment, call_type, arguments, None, request_id)
            call.answered(answer)
            draft = CallDrafts(_model).answered(call)
            if draft is not None:
                draft = self._calls.named(draft, caller.subject)
                self._gateway().answered(request_id, draft, made_at(request_id))
        except Exception:
            ERRORS.labels("answering").inc()
            log.exception("an answer could not be counted; its event will be")

    def _drafted(
        self, logged: LoggedCall, response: object, caller: Caller | None, event_id: UUID, at: datetime
    ) -> UsageDraft | None:
        """The event, for whom the call was admitted; the bill of an object for whom that was made."""
        who = caller.subject if caller else _subject.get()
        seen = sighting_in(logged, response)
        if seen is not None:
            bill = bill_now(self._gateway(), seen, Caller(who, ""), None, logged, at)
            if bill.is_due:
                return bill.draft
        draft = usage_of(logged, event_id=event_id, occurred_at=at)
        return None if draft is None else self._calls.named(draft, who)

    def _see(self, who: Subject) -> None:
        """Show the fractions where each account of the subject stands."""
        if self._fractions is None:
            return
        views, now = self._gateway().views, datetime.now(UTC)
        stands = []
        with views.lock:
            for account in views.budgets.book.accounts_of(who):
                window = views.budgets.book.present_window(account.budget, now)
                if window is not None:
                    spent = views.spend.known(account.name, window.start).certain_nanousd
                    stands.append((account, window.start, spent, account.budget.limit_at(now)))
        for account, start, spent, limit in stands:
            self._fractions.see(
                (account.name, start), account.budget.id, to_usd(NanoUsd(spent)), to_usd(limit)
            )


def _model(call: Call) -> Model:
    return model_of(None, deployment_of(call.arguments), call.deployment.model_group, None)


def _deployment(kwargs: Mapping[str, Any], group: str | None) -> Deployment:
    """Model and provider as the event will name them: LiteLLM logs a Router's model as it is configured."""
    model, provider = named({"litellm_params": kwargs})
    return Deployment(
        group or "", model if group is not None else model.removeprefix(f"{provider}/"), provider
    )


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of a coroutine, for who has no loop or must not leave the one there is."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, asyncio.run, work).result()
