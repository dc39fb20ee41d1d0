"""Reading LiteLLM's log-event kwargs: plain values out of a structure that promises nothing.

A field that is missing, of another type, or too long never raises: the event must be recorded.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from spendmeter.values.times import EPOCH

EVENT_ID_FIELD = "spendmeter_event_id"
"""Where the pre-call hook leaves the id it mints, in each metadata dict that the request has."""
METADATA = ("metadata", "litellm_metadata")
"""Where a request carries what its log event will have: LiteLLM uses one of them, by the route."""
JSON_TYPES = (dict, list, str, int, float, type(None))
# LiteLLM itself puts it into the one that the route uses.
_PUT_BY_THE_PROXY = "user_api_key_hash"

# A client chooses tags, session and end user. Bounded, so that no event outgrows a Kafka record.
MAX_TEXT_CHARS = 512
MAX_TAGS = 32
MAX_TAG_CHARS = 256
_MAX_TOKENS = 2**53
# Python refuses to write out an integer of more than 4,300 digits.
_MAX_INTEGER_BITS = 8 * MAX_TEXT_CHARS

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_NOTHING: Mapping[str, Any] = {}
_LISTS = (list, tuple)


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    # Nearly always a dict or None. Called twenty times a request; an abstract class costs five times as much.
    if type(value) is dict:
        return value
    return _NOTHING if value is None or not isinstance(value, Mapping) else value


def fields_of(found: object) -> Mapping[str, Any]:
    """What one of LiteLLM's objects holds: the fields of a model, or the mapping that stands for one."""
    if isinstance(found, dict):
        return found
    fields: Mapping[str, Any] | None = getattr(found, "__dict__", None)
    return mapping(found) if fields is None else fields


def part_of(answer: object, name: str) -> Any:
    """A part of an answer, which is a dictionary or one of LiteLLM's models."""
    return answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)


def scalar(value: object) -> str | int | float | UUID | None:
    """The value if it can be a name: a text, a number, an id. None for lists, objects and all else.

    A client decides how deep its JSON is nested, and to compare or print a deep value raises
    RecursionError. So whatever is a name passes through here before anything else is done with it.
    """
    if type(value) is str:
        return value
    if isinstance(value, str):
        # An enumeration's member is its text, whatever its class makes of `str()`.
        return str.__str__(value)
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_INTEGER_BITS else None
    return value if isinstance(value, float | UUID) else None


def finish_time(end_time: object, now: datetime) -> datetime:
    """When a call finished, which decides the window. LiteLLM logs it a little later, with a local time."""
    try:
        return max(EPOCH, min(end_time.astimezone(UTC), now)) if isinstance(end_time, datetime) else now
    except (OverflowError, ValueError):
        return now  # outside the years that there are in UTC


def text(value: object, max_chars: int = MAX_TEXT_CHARS) -> str:
    """The name as text of at most that many characters that UTF-8 can hold; `""` for what is none."""
    if type(value) is str and len(value) <= max_chars and value.isascii():
        return value
    found = scalar(value)
    if found is None:
        return ""
    cut = str(found)[:max_chars]
    # A lone surrogate from a client's JSON would not encode.
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def text_or_none(value: object) -> str | None:
    """As `text`, but None where there is none."""
    # As `text` would, without the call: nearly every name is such, and a request has ten.
    if type(value) is str and len(value) <= MAX_TEXT_CHARS and value.isascii():
        return value or None
    return None if value is None else text(value) or None


def tokens(value: object) -> int:
    """A count of tokens: what is no number, or a negative one, counts as 0."""
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= _MAX_TOKENS:
        return value
    count = number(value)
    return 0 if count is None else int(min(max(count, 0.0), _MAX_TOKENS))


def seconds(value: object) -> float | None:
    """A time in seconds since 1970, or None where there is none."""
    found = number(value)
    return found if found is not None and 0 < found < 2**33 else None


def number(value: object) -> float | None:
    """The value if it is a finite number."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def key_hash(key: object) -> str:
    """The key's hash: LiteLLM hashes keys that begin with `sk-` and passes any other on in clear.

    SHA-256 in hex is what LiteLLM itself makes of a key. Empty for no key.
    """
    found = scalar(key)
    if not found:
        return ""
    key = str(found)
    if _HASH.fullmatch(key):
        return key.lower()
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def tags(*sources: object) -> tuple[str, ...]:
    """The tags of these lists, each once, the first MAX_TAGS of them.

    LiteLLM's own `User-Agent: …` entries are none, nor is what is no text.
    """
    kept: dict[str, None] = {}
    for source in sources:
        if not source or not isinstance(source, _LISTS):
            continue
        for tag in source:
            if isinstance(tag, str) and tag and not tag.startswith("User-Agent: "):
                kept[text(tag, MAX_TAG_CHARS)] = None
                if len(kept) == MAX_TAGS:
                    return tuple(kept)
    return tuple(kept)


def request_metadata(request: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The metadata that travels with a request, in its body and in the log event's `litellm_params`.

    Chat routes carry it under `metadata`; routes where clients have a field of that name
    (`/v1/messages`, `/v1/responses`) carry it under `litellm_metadata` as well.
    """
    return mapping(request.get("metadata")), mapping(request.get("litellm_metadata"))


def metadata_of_the_proxy(request: Mapping[str, Any]) -> str | None:
    """Which metadata is LiteLLM's own; the other is the client's, and may go to the provider.

    LiteLLM puts an object into its own, and JSON makes none.
    """
    for name in METADATA:
        metadata = request.get(name)
        if type(metadata) is dict and type(metadata.get("user_api_key_auth")) not in JSON_TYPES:
            return name
    for name in reversed(METADATA):
        metadata = request.get(name)
        if type(metadata) is dict and "user_api_key_hash" in metadata:
            return name
    return None


def put_event_id(data: dict[str, Any], event_id: str) -> None:
    """Put the id where LiteLLM keeps its own fields, and remove a forged one from where clients write.

    On /v1/messages and /v1/responses `metadata` is the client's and goes to the provider, which may
    refuse a field that it does not know.
    """
    is_put = False
    for name in METADATA:
        metadata = data.get(name)
        if not isinstance(metadata, dict):
            continue
        if _PUT_BY_THE_PROXY in metadata:
            metadata[EVENT_ID_FIELD] = event_id
            is_put = True
        else:
            metadata.pop(EVENT_ID_FIELD, None)
    if not is_put:
        if not isinstance(data.get("metadata"), dict):
            data["metadata"] = {}
        data["metadata"][EVENT_ID_FIELD] = event_id


def session_of(request: Mapping[str, Any]) -> str | None:
    """The conversation that the caller says a request belongs to, where LiteLLM keeps it.

    The same names in the request before it is routed and in the log event's `litellm_params`. LiteLLM's
    own field for it stays empty unless `request_correlation_in_logs` is set.
    """
    metadata, other = request_metadata(request)
    return first_text(
        (request.get("litellm_session_id"), metadata.get("session_id"), other.get("session_id"))
    )


def first_text(values: Iterable[object]) -> str | None:
    """The first of these that is a name."""
    for value in values:
        found = text_or_none(value)
        if found is not None:
            return found
    return None
