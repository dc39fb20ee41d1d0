"""Objects that a provider keeps and bills once, as LiteLLM's calls show them, and their one bill. Pure.

A background response, a batch, a tuning job or a video is made by one call and read by any number of
others, at any gateway, by anybody. The call that shows it finished with its usage is its bill: it bears
the object's name and is charged to who made it. All other calls on it bill nothing.

LiteLLM hands out ids of its own making, which hold the provider's: encoded with the deployment, encrypted
with the user, or both. `own_id` undoes that. Shapes measured on LiteLLM 1.106.2.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from spendmeter.contract.provider_object import (
    BILLED_WITHIN,
    ObjectKind,
    ProviderObject,
    object_event_id,
    object_name,
)
from spendmeter.contract.usage import ALIASES, CREATOR_UNKNOWN, Status
from spendmeter.values.dimensions import FIELDS
from spendmeter.values.times import from_unix_us
from spendmeter_gateway.litellm.fields import mapping, part_of, seconds, text
from spendmeter_gateway.litellm.payload.logged_call import LoggedCall, batch_models_in
from spendmeter_gateway.model import UsageDraft

_KINDS = {
    "responses": ObjectKind.RESPONSE,
    "get_responses": ObjectKind.RESPONSE,
    "cancel_responses": ObjectKind.RESPONSE,
    "create_batch": ObjectKind.BATCH,
    "retrieve_batch": ObjectKind.BATCH,
    "cancel_batch": ObjectKind.BATCH,
    "create_fine_tuning_job": ObjectKind.TUNING_JOB,
    "retrieve_fine_tuning_job": ObjectKind.TUNING_JOB,
    "cancel_fine_tuning_job": ObjectKind.TUNING_JOB,
    "video_generation": ObjectKind.VIDEO,
    "video_remix": ObjectKind.VIDEO,
    "video_edit": ObjectKind.VIDEO,
    "video_extension": ObjectKind.VIDEO,
}
_MAKES = frozenset({"responses"} | {name for name in _KINDS if name.startswith(("create_", "video_"))})
_UNFINISHED = frozenset({
    "queued", "in_progress", "validating", "validating_files", "running", "finalizing", "cancelling",
    "paused",
})  # fmt: skip
_ENDED = ("completed_at", "finished_at", "failed_at", "cancelled_at", "expired_at")

# In an order of preference where an id says several things: what is the provider's own.
_INNER_IDS = re.compile(r"(?:response_id|video_id|llm_batch_id|generic_response_id|raw_id)[:,]([^;]+)")
_WITH_MODEL = re.compile(r"litellm:([^;]+);model,")
_PREFIX = re.compile(r"(?:resp|batch|video|ftjob|file)[_-]")
_MAX_WRAPPINGS = 4

Decrypt = Callable[[str], str]
"""LiteLLM's encrypted response id to what it holds; any other id as it is."""


class Sighting(NamedTuple):
    """What one call shows of an object."""

    object_id: str
    own_id: str
    kind: ObjectKind
    is_made: bool
    """By this call; else it is read."""
    is_background: bool
    """Of a response: only these are billed by who reads them."""
    is_finished: bool
    created_at: datetime | None
    ended_at: datetime | None
    models: tuple[str, ...]
    """Of a batch, as its output names them."""
    trained_tokens: int


def own_id(shown: str, decrypt: Decrypt = str) -> str:
    """The provider's own id, out of any that LiteLLM has made of it."""
    found = shown
    for _ in range(_MAX_WRAPPINGS):
        inner = _unwrapped(found) or _unwrapped(decrypt(found)) or decrypt(found)
        if inner == found:
            break
        found = inner
    return found


def sighting_in(call: LoggedCall, response: object, decrypt: Decrypt = str) -> Sighting | None:
    """What a log event shows of an object: None where the call is none on an object, or has failed.

    `response` is what LiteLLM gives beside the event: what is logged of it may have been redacted.
    """
    call_type = call.call_type.removeprefix("a")
    # Nearly every call ends here.
    if call_type not in _KINDS or call.is_failure:
        return None
    seen = _Seen(response, mapping(call.answer))
    is_background = call.is_background or seen.of("background") is True
    if call_type == "responses" and not is_background:
        return None
    addressed = call.addressed if call_type not in _MAKES else ""
    return _sighting(
        call_type,
        call.provider,
        addressed or text(seen.of("id")) or call.response_id,
        seen,
        is_background=is_background,
        models=call.batch_models or batch_models_in(mapping(getattr(response, "_hidden_params", None))),
        decrypt=decrypt,
    )


def made_by(
    call_type: str, provider: str, response: object, *, is_background: bool, decrypt: Decrypt = str
) -> Sighting | None:
    """What the answer to a call shows of the object that it made; None where it made none."""
    call_type = call_type.removeprefix("a")
    if call_type not in _MAKES:
        return None
    seen = _Seen(response, {})
    is_background = is_background or seen.of("background") is True
    if call_type == "responses" and not is_background:
        return None
    shown = text(seen.of("id"))
    return _sighting(
        call_type, provider, shown, seen, is_background=is_background, models=(), decrypt=decrypt
    )


def has_ended(response: object) -> bool:
    """Whether the provider will do nothing more for a response that was read."""
    return _Seen(response, {}).has_ended


def makes(call_type: str) -> bool:
    """Whether a call of that type may make an object."""
    return call_type.removeprefix("a") in _MAKES


def is_billed_apart(call_type: str, arguments: Mapping[str, Any]) -> bool:
    """Whether what a call costs, if anything, is an object's bill and none of its own."""
    call_type = call_type.removeprefix("a")
    if call_type in ("get_responses", "responses"):
        # What is read may be of the background; what was made outside it is billed as a call.
        return call_type == "get_responses" or arguments.get("background") is True
    return call_type in _KINDS and _KINDS[call_type] is not ObjectKind.VIDEO


def is_to_be_billed(seen: Sighting, made: ProviderObject | None) -> bool:
    """Whether the object has a bill of its own; a response outside the background is billed as a call."""
    return seen.kind is not ObjectKind.RESPONSE or seen.is_background or made is not None


def bill_of(
    draft: UsageDraft | None, seen: Sighting, made: ProviderObject | None, now: datetime
) -> UsageDraft | None:
    """The object's bill, if the drafted call is one; `made` says who made the object, None where unknown.

    Nobody but its maker is charged for what is known to be theirs. Where that is not known (it was made
    past us, or too long ago) the reader is, and the event's reason says so.
    """
    if draft is None or not seen.is_finished or draft.fields.get("estimated") or not _has_usage(draft, seen):
        return None
    fields = {**draft.fields}
    ended_at = min(seen.ended_at or seen.created_at or fields["occurred_at"], now)
    if now - ended_at > BILLED_WITHIN:
        return None
    started_at = min(seen.created_at or ended_at, ended_at)
    fields |= {
        "event_id": object_event_id(seen.object_id),
        "object_id": seen.object_id,
        "response_id": seen.own_id,
        "occurred_at": ended_at,
        "started_at": started_at,
        "duration_ms": round((ended_at - started_at) / timedelta(milliseconds=1)),
        "status": Status.SUCCESS,
    }
    if not fields.get("model"):
        fields["model"] = _one_model(seen.models) or (made.model if made else "")
    if seen.kind is ObjectKind.TUNING_JOB and not fields.get("total_tokens"):
        fields["input_tokens"] = fields["total_tokens"] = seen.trained_tokens
    if made is not None:
        # The names that are known are those of who reads it.
        fields |= dict.fromkeys(ALIASES)
        fields |= {name: getattr(made, name) for name in _OF_THE_MAKER}
        fields["model_group"] = made.model_group
    elif not seen.is_made:
        fields["reason"] = CREATOR_UNKNOWN
    # Made without a model, as a batch may be: the one that its lines name.
    fields["model_group"] = fields.get("model_group") or fields["model"]
    return draft._replace(fields=fields)


# Where a call went, and through which gateway, is of no interest to who pays for what it made.
_OF_THE_CALL = frozenset({"model", "model_group", "provider", "gateway"})
_OF_THE_MAKER = ("key_alias", *(field for field in FIELDS if field not in _OF_THE_CALL))


def maker_of(
    seen: Sighting, fields: Mapping[str, Any], now: datetime, gateway: str, read_as: str = ""
) -> ProviderObject:
    """Who made the object, from the subject fields of the call that made it."""
    given = {name: fields[name] for name in (*_OF_THE_MAKER, "model", "model_group") if fields.get(name)}
    return ProviderObject(
        object_id=seen.object_id,
        kind=seen.kind,
        created_at=seen.created_at or now,
        gateway=gateway,
        read_as=read_as if seen.kind is ObjectKind.RESPONSE else "",
        **given,
    )


class _Seen:
    """The answer: an object of LiteLLM's, a dict, or what was logged of it."""

    def __init__(self, response: object, logged: Mapping[str, Any]) -> None:
        self._response, self._logged = response, logged

    def of(self, name: str) -> Any:
        found = part_of(self._response, name)
        return self._logged.get(name) if found is None else found

    @property
    def has_ended(self) -> bool:
        return str(self.of("status")) not in _UNFINISHED


def _sighting(
    call_type: str,
    provider: str,
    shown: str,
    seen: _Seen,
    *,
    is_background: bool,
    models: tuple[str, ...],
    decrypt: Decrypt,
) -> Sighting | None:
    if not shown:
        return None
    kind, own = _KINDS[call_type], text(own_id(shown, decrypt))
    is_made = call_type in _MAKES
    trained = seen.of("trained_tokens")
    return Sighting(
        object_id=object_name(provider, own),
        own_id=own,
        kind=kind,
        is_made=is_made,
        is_background=is_background,
        # A video has its price when it is ordered; LiteLLM logs it then and never again.
        is_finished=kind is ObjectKind.VIDEO or seen.has_ended,
        created_at=_time(seen.of("created_at")),
        ended_at=None
        if kind is ObjectKind.VIDEO
        else next((at for name in _ENDED if (at := _time(seen.of(name))) is not None), None),
        models=models,
        trained_tokens=trained if isinstance(trained, int) and 0 < trained < 2**53 else 0,
    )


def _has_usage(draft: UsageDraft, seen: Sighting) -> bool:
    fields = draft.fields
    return bool(fields["cost_nanousd"] or fields.get("total_tokens") or seen.trained_tokens)


def _one_model(models: tuple[str, ...]) -> str:
    """The model of a batch: OpenAI allows one; elsewhere there may be several, and none is the batch's."""
    return models[0] if len(models) == 1 else "mixed" if models else ""


def _time(shown: object) -> datetime | None:
    """A time of a provider's, which are whole seconds, or a text of an API that writes them so."""
    if isinstance(shown, str):
        try:
            read = datetime.fromisoformat(shown)
        except ValueError:
            return None
        shown = read.timestamp() if read.tzinfo else None
    if isinstance(shown, datetime):
        shown = shown.astimezone(UTC).timestamp()
    at = seconds(shown)
    return None if at is None else from_unix_us(round(at) * 1_000_000)


def _unwrapped(shown: str) -> str | None:
    """What an encoded id holds, or what an id that says what it holds says; None of the provider's own."""
    said = shown if shown.startswith("litellm") else _decoded(_PREFIX.sub("", shown, count=1))
    if said is None or not said.startswith("litellm"):
        return None
    found = _WITH_MODEL.match(said) or _INNER_IDS.search(said)
    return found.group(1) if found else None


def _decoded(encoded: str) -> str | None:
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        pass
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
