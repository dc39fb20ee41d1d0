"""Guards of the gateway broken one at a time: what the adversary must be able to see.

The proxy of the harness (proxy.py) applies the one that the environment names before LiteLLM is built;
the product has no switch for it.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from spendmeter.contract.ids import uuid7
from spendmeter.contract.money import NanoUsd

ENVIRONMENT = "ADVERSARY_MUTATION"


def install() -> None:
    """Break what the environment names, if anything. Must run in the proxy's process, before its start."""
    name = os.environ.get(ENVIRONMENT)
    if name:
        MUTATIONS[name]()


def _the_log_says_who_pays() -> None:
    """The owner is what a client can write into a request's metadata."""
    from producers import mapping

    right = mapping._who

    def who(kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
        found = right(kwargs, payload)
        forged = _client_metadata(kwargs).get("user_api_key_hash")
        return {**found, "key": forged} if forged else found

    vars(mapping)["_who"] = who


def _cached_input_is_free() -> None:
    """What was read from a provider's cache is not billed."""
    from producers import costs, mapping

    right = costs.cost_of

    def cost_of(kwargs: Mapping[str, Any], prices: Mapping[str, str]) -> Any:
        cost = right(kwargs, prices)
        payload = kwargs.get("standard_logging_object") or {}
        usage = (payload.get("metadata") or {}).get("usage_object") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        each = float(prices.get("cache_read_token", "0"))
        return cost._replace(amount=NanoUsd(max(0, cost.amount - round(cached * each * 1e9))))

    vars(mapping)["cost_of"] = cost_of


def _every_event_is_recorded_twice() -> None:
    """No event is dropped as known already."""
    from producers.recorder import Recorder

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
    from producers.strict import Strict

    Strict.release = lambda self, request: None  # type: ignore[method-assign]


def _refusals_are_logged_only() -> None:
    """Who is refused is served."""
    from producers.gateway import Gateway

    async def admit(*args: Any, **kwargs: Any) -> None:
        return None

    Gateway.admit = admit  # type: ignore[method-assign]


def _left_streams_are_lost() -> None:
    """A stream that its client left makes no event."""
    from producers import mapping

    right = mapping.usage_of

    def usage_of(kwargs: Mapping[str, Any], **more: Any) -> Any:
        draft = right(kwargs, **more)
        return None if draft is not None and draft.fields["estimated"] else draft

    _everywhere("usage_of", usage_of)


def _everywhere(name: str, function: Callable[..., Any]) -> None:
    """Replace a function in each module that imports it by name."""
    from producers import litellm_answer, litellm_callback, mapping

    for module in (mapping, litellm_answer, litellm_callback):
        vars(module)[name] = function


def _client_metadata(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    request = (kwargs.get("litellm_params") or {}).get("proxy_server_request") or {}
    metadata = (request.get("body") or {}).get("metadata")
    return metadata if isinstance(metadata, dict) else {}


MUTATIONS: Mapping[str, Callable[[], None]] = {
    "the log says who pays": _the_log_says_who_pays,
    "cached input is free": _cached_input_is_free,
    "every event is recorded twice": _every_event_is_recorded_twice,
    "holds are kept": _holds_are_kept,
    "refusals are logged only": _refusals_are_logged_only,
    "left streams are lost": _left_streams_are_lost,
}
