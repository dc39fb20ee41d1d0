"""Guards of the gateway broken one at a time: what the adversary must be able to see.

The proxy of the harness (proxy.py) applies the one that the environment names before LiteLLM is built;
the product has no switch for it.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from spendmeter.contract.money import NanoUsd
from spendmeter.values.ids import uuid7

ENVIRONMENT = "ADVERSARY_MUTATION"


def install() -> None:
    """Break what the environment names, if anything. Must run in the proxy's process, before its start."""
    name = os.environ.get(ENVIRONMENT)
    if not name:
        return
    MUTATIONS[name]()
    # The callback is imported now, without a server's loop, and would start its gateway at the first request.
    from spendmeter.settings import load
    from spendmeter_gateway.gateway import the_gateway
    from spendmeter_gateway.settings import GatewaySettings

    the_gateway(load(GatewaySettings))


def _the_log_says_who_pays() -> None:
    """The owner is what LiteLLM's log says, which a client's metadata reaches by its fallbacks."""
    from spendmeter_gateway.litellm.recording import call_drafts, call_recorder

    def charged(draft: Any, call_or_exchange: Any) -> Any:
        return draft

    vars(call_drafts)["charged_to"] = vars(call_recorder)["charged_to"] = charged
    vars(call_recorder)["_charged_to_caller"] = charged
    # Else what a client writes there is taken out before.
    _controls_stay()


def _cached_input_is_free() -> None:
    """What was read from a provider's cache is not billed."""
    from spendmeter_gateway.litellm.recording import call_drafts, call_recorder

    right = call_drafts.charged_to

    def charged_to(draft: Any, call: Any) -> Any:
        found = right(draft, call)
        each = float(found.fields["prices"].get("cache_read_token", "0"))
        cached = round(found.fields["cache_read_tokens"] * each * 1e9)
        cost = NanoUsd(max(0, found.fields["cost_nanousd"] - cached))
        return found._replace(fields={**found.fields, "cost_nanousd": cost})

    vars(call_drafts)["charged_to"] = charged_to
    vars(call_recorder)["charged_to"] = charged_to


def _every_event_is_recorded_twice() -> None:
    """No event is dropped as known already."""
    from spendmeter_gateway.recorder import Recorder

    right = Recorder.record

    def record(self: Recorder, draft: Any, ends: Any = None) -> Any:
        event = right(self, draft, ends)
        if event is not None:
            again = {**draft.fields, "event_id": uuid7(int(draft.fields["occurred_at"].timestamp() * 1000))}
            right(self, draft._replace(fields=again))
        return event

    Recorder.record = record  # type: ignore[method-assign]


def _holds_are_kept() -> None:
    """Nothing releases a hold."""
    from spendmeter_gateway.admission.reservation_manager import ReservationManager

    ReservationManager.release = lambda self, request: None  # type: ignore[method-assign]


def _refusals_are_logged_only() -> None:
    """Who is refused is served."""
    from spendmeter_gateway.gateway import Gateway

    async def admit(*args: Any, **kwargs: Any) -> None:
        return None

    Gateway.admit = admit  # type: ignore[method-assign]


def _left_streams_are_lost() -> None:
    """A stream that its client left makes no event."""
    from spendmeter_gateway.litellm.payload import usage as mapping

    right = mapping.usage_of

    def usage_of(logged: Any, **more: Any) -> Any:
        draft = right(logged, **more)
        return None if draft is not None and draft.fields["estimated"] else draft

    _everywhere("usage_of", usage_of)
    _calls_that_are_cut_cost_nothing()


def _calls_that_are_cut_cost_nothing() -> None:
    """What LiteLLM does not log is not billed."""
    from spendmeter_gateway.settlement import Settlement

    Settlement._draft = lambda self, call, drafts: None  # type: ignore[method-assign]


def _only_the_request_is_counted() -> None:
    """A request has one event, however many calls it makes."""
    from spendmeter_gateway.exchange import Exchange

    Exchange.made_several = property(lambda self: False)  # type: ignore[assignment, method-assign]
    _calls_that_are_cut_cost_nothing()


def _controls_stay() -> None:
    """What a client writes of prices and logging stays. Alone it is harmless: others stand behind it."""
    from spendmeter_gateway.litellm import callback as litellm_callback
    from spendmeter_gateway.litellm.admission import request_admission
    from spendmeter_gateway.litellm.request.controls import NOTHING

    vars(request_admission)["apply_controls"] = lambda data, *, is_under_budget: NOTHING
    vars(litellm_callback)["strip_final"] = lambda kwargs: ()


def _calls_are_not_judged() -> None:
    """Where a call really goes does not matter once its request was admitted."""
    from spendmeter_gateway.litellm.callback import SpendmeterCallback

    async def hook(self: Any, kwargs: Any, call_type: Any) -> None:
        return None

    setattr(SpendmeterCallback, "async_pre_call_deployment_hook", hook)  # noqa: B010  # mypy has it as a method


def _zero_is_believed() -> None:
    """LiteLLM's figure counts, whatever the tokens say."""
    from spendmeter_gateway.litellm.payload import costs

    vars(costs)["cost_in_tokens"] = lambda *args, **kwargs: None


def _reads_are_billed_again() -> None:
    """What is read of the provider is one more call."""
    from spendmeter_gateway.litellm.payload import provider_objects
    from spendmeter_gateway.litellm.payload import usage as mapping

    vars(provider_objects)["sighting_in"] = lambda *args, **kwargs: None
    vars(mapping)["_is_poll"] = lambda logged: False


def _streams_without_usage_are_exact() -> None:
    """LiteLLM's own count of tokens is taken for the provider's."""
    from spendmeter_gateway.litellm.recording import call_drafts

    vars(call_drafts)["lacks_usage"] = lambda stream: False


def _what_litellm_cannot_convert_is_free() -> None:
    """An answer that LiteLLM has noted and could not convert counts as a provider's refusal."""
    from spendmeter_gateway.litellm.recording import call_recorder

    vars(call_recorder)["_was_answered"] = lambda data: False


def _text_completions_are_exact() -> None:
    """A text completion does not know its stream: LiteLLM's own count passes for the provider's."""
    from spendmeter_gateway.litellm.server import observation

    vars(observation)["_only_stream"] = lambda exchange: None


def _copies_in_the_log_count_twice() -> None:
    """What LiteLLM's log event has under two names is estimated twice."""
    from spendmeter_gateway.litellm.payload import estimated_usage

    vars(estimated_usage)["CONTENT"] = ()


def _everywhere(name: str, function: Callable[..., Any]) -> None:
    """Replace a function in each module that imports it by name."""
    from spendmeter_gateway.litellm.payload import usage as mapping
    from spendmeter_gateway.litellm.recording import call_drafts, call_recorder

    for module in (mapping, call_drafts, call_recorder):
        vars(module)[name] = function


def _client_hash(body: Any) -> Any:
    """A key's hash in any metadata of a client's body, also in its fallbacks."""
    waiting = [body]
    for _ in range(1_000):
        if not waiting:
            return None
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            if part.get("user_api_key_hash"):
                return part["user_api_key_hash"]
            waiting.extend(part.values())
    return None


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "the log says who pays": _the_log_says_who_pays,
    "cached input is free": _cached_input_is_free,
    "every event is recorded twice": _every_event_is_recorded_twice,
    "holds are kept": _holds_are_kept,
    "refusals are logged only": _refusals_are_logged_only,
    "left streams are lost": _left_streams_are_lost,
    "only the request is counted": _only_the_request_is_counted,
    "calls are not judged": _calls_are_not_judged,
    "zero is believed": _zero_is_believed,
    "reads are billed again": _reads_are_billed_again,
    "streams without usage are exact": _streams_without_usage_are_exact,
    "what litellm cannot convert is free": _what_litellm_cannot_convert_is_free,
    "text completions are exact": _text_completions_are_exact,
    "copies in the log count twice": _copies_in_the_log_count_twice,
}
