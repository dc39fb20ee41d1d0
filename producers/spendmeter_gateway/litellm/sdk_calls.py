"""Calls of a program without a proxy: whom each is for, from its admission to its event. Pure."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any
from uuid import UUID

import litellm

from spendmeter.contract.money import to_usd
from spendmeter.domain.matching import Subject
from spendmeter.values.dimensions import DIMENSIONS, Dimension
from spendmeter_gateway.admission.refusal import Refusal
from spendmeter_gateway.litellm.fields import (
    EVENT_ID_FIELD,
    METADATA,
    key_hash,
    mapping,
    session_of,
    tags,
    text_or_none,
)
from spendmeter_gateway.model import Caller, UsageDraft

# As many calls may run at a time; one that is forgotten is recorded for whoever its context names.
MAX_CALLS_REMEMBERED = 10_000
# Of a call, not of its subject, and tags, which add up.
_NOT_SAID: tuple[Dimension, ...] = ("tag", "model", "model_group", "provider", "gateway")
_DIMENSIONS: tuple[str, ...] = tuple(dimension for dimension in DIMENSIONS if dimension not in _NOT_SAID)
# On these, `metadata` is a field of the provider's.
_METADATA_IS_THE_PROVIDERS = ("input", "max_output_tokens", "previous_response_id")
_STREAMS_WITH_OPTIONAL_USAGE = ("completion", "acompletion", "text_completion", "atext_completion")


class BudgetRefused(litellm.BudgetExceededError):  # type: ignore[misc]
    """A call that a budget does not allow; `headers` are those that a gateway would have answered with."""

    def __init__(self, refusal: Refusal) -> None:
        refuse = refusal.refuse
        super().__init__(
            current_cost=float(to_usd(refuse.spent_nanousd)),
            max_budget=float(to_usd(refuse.limit_nanousd)),
            message=refusal.message,
        )
        self.type = refusal.type
        self.headers = refusal.headers
        self.budget = None if refuse.account is None else refuse.account.budget.id


def subject_for(outer: Subject, given_tags: tuple[str, ...], dimensions: Mapping[str, str]) -> Subject:
    """The outer subject with more said of it. Raises TypeError: no such dimension."""
    unknown = set(dimensions) - set(_DIMENSIONS)
    if unknown:
        raise TypeError(
            f"a subject has no {', '.join(sorted(unknown))}; it has {', '.join(_DIMENSIONS)}, tags"
        )
    said: dict[str, str | None] = {
        name: key_hash(value) if name == "key" else text_or_none(value) for name, value in dimensions.items()
    }
    return outer._replace(**said, tags=tags([*outer.tags, *given_tags]))


class Calls:
    """The calls that run, by the id that their event will have. Any thread."""

    def __init__(self) -> None:
        self._callers: OrderedDict[UUID, Caller] = OrderedDict()
        self._lock = Lock()

    def knows(self, request_id: UUID | None) -> bool:
        """Whether that call was admitted and has not ended."""
        with self._lock:
            return request_id in self._callers

    def put(self, request_id: UUID, caller: Caller) -> None:
        """A call is about to be made."""
        with self._lock:
            self._callers[request_id] = caller
            if len(self._callers) > MAX_CALLS_REMEMBERED:
                self._callers.popitem(last=False)

    def get(self, request_id: UUID | None) -> Caller | None:
        """Who made a call that has not ended; None where it has, or was not admitted."""
        with self._lock:
            return self._callers.get(request_id) if request_id is not None else None

    def pop(self, request_id: UUID | None) -> Caller | None:
        """A call has ended; who made it, if that is known."""
        with self._lock:
            return self._callers.pop(request_id, None) if request_id is not None else None

    def marked(self, kwargs: Mapping[str, Any], request_id: UUID, call_type: str) -> dict[str, Any]:
        """The arguments with the id where LiteLLM keeps what its log event will have.

        Copies: the program's own dicts stay as they are, and a second attempt gets an id of its own.
        """
        names = METADATA[1:] if any(name in kwargs for name in _METADATA_IS_THE_PROVIDERS) else METADATA
        data = {
            **kwargs,
            **{name: {**mapping(kwargs.get(name)), EVENT_ID_FIELD: str(request_id)} for name in names},
        }
        if kwargs.get("stream") and call_type in _STREAMS_WITH_OPTIONAL_USAGE:
            # Without it LiteLLM logs a stream of no tokens, for nothing; a proxy asks by itself.
            data["stream_options"] = {**mapping(kwargs.get("stream_options")), "include_usage": True}
        return data

    def subject(
        self, context: Subject, kwargs: Mapping[str, Any], model_group: str | None, gateway: str
    ) -> Subject:
        """Whom a call is for: the context, and where that is silent the call's own arguments."""
        metadata = mapping(kwargs.get("metadata"))
        given = metadata.get("tags")
        return context._replace(
            key=context.key or "",
            end_user=context.end_user or text_or_none(kwargs.get("user")),
            session=context.session or session_of(kwargs),
            tags=tags([*context.tags, *(given if isinstance(given, list | tuple) else ())]),
            model_group=model_group,
            gateway=gateway,
        )

    def named(self, draft: UsageDraft, who: Subject) -> UsageDraft:
        """The event in the names that the call was admitted under."""
        names = {name: getattr(who, name) for name in _DIMENSIONS if getattr(who, name)}
        return draft._replace(fields={**draft.fields, **names, **({"tags": who.tags} if who.tags else {})})
