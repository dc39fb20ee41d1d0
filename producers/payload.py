"""Reading LiteLLM's log-event kwargs: plain values out of a structure that promises nothing.

A field that is missing, of another type, or too long never raises: the event must be recorded.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

# A client chooses tags, session and end user. Bounded, so that no event outgrows a Kafka record.
MAX_TEXT_CHARS = 512
MAX_TAGS = 32
MAX_TAG_CHARS = 256
_MAX_TOKENS = 2**53

_HASH = re.compile(r"[0-9a-fA-F]{64}")
_NOTHING: Mapping[str, Any] = {}


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    # A dict or None, nearly always. Asked twenty times a request; an abstract class costs five times as much.
    if type(value) is dict:
        return value
    return _NOTHING if value is None or not isinstance(value, Mapping) else value


def fields_of(found: object) -> Mapping[str, Any]:
    """What one of LiteLLM's objects holds: the fields of a model, or the mapping that stands for one."""
    if isinstance(found, dict):
        return found
    fields: Mapping[str, Any] | None = getattr(found, "__dict__", None)
    return mapping(found) if fields is None else fields


def text(value: object, max_chars: int = MAX_TEXT_CHARS) -> str:
    """The value as text of at most that many characters that UTF-8 can hold; `""` for None."""
    if type(value) is str and len(value) <= max_chars and value.isascii():
        return value
    if value is None:
        return ""
    cut = str(value)[:max_chars]
    # A lone surrogate from a client's JSON would not encode.
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode("utf-8")


def text_or_none(value: object) -> str | None:
    # As `text`, asked here too: it is what nearly every name is, and there are ten in a request.
    if type(value) is str and len(value) <= MAX_TEXT_CHARS and value.isascii():
        return value or None
    return None if value is None else text(value) or None


def tokens(value: object) -> int:
    """A count of tokens: what is no number, or a negative one, counts as 0."""
    if value is None:
        return 0
    if type(value) is int and 0 <= value <= _MAX_TOKENS:
        return value
    number = _number(value)
    return 0 if number is None else int(min(max(number, 0.0), _MAX_TOKENS))


def seconds(value: object) -> float | None:
    """A time in seconds since 1970, or None where there is none."""
    number = _number(value)
    return number if number is not None and 0 < number < 2**33 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def key_hash(key: object) -> str:
    """The key's hash: LiteLLM hashes keys that begin with `sk-` and passes any other on in clear.

    SHA-256 in hex is what LiteLLM itself makes of a key. Empty for no key.
    """
    if not key:
        return ""
    key = str(key)
    if _HASH.fullmatch(key):
        return key.lower()
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def tags(value: object) -> tuple[str, ...]:
    """The tags a caller gave, each once; LiteLLM's own `User-Agent: …` entries are none of them."""
    if not isinstance(value, list | tuple):
        return ()
    kept: dict[str, None] = {}
    for tag in value:
        if isinstance(tag, str) and tag and not tag.startswith("User-Agent: "):
            kept[text(tag, MAX_TAG_CHARS)] = None
    return tuple(kept)[:MAX_TAGS]


def request_metadata(kwargs: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The metadata that travelled with the request.

    Chat routes carry it under `metadata`; routes where clients have a field of that name
    (`/v1/messages`, `/v1/responses`) carry it under `litellm_metadata` as well.
    """
    params = mapping(kwargs.get("litellm_params"))
    return mapping(params.get("metadata")), mapping(params.get("litellm_metadata"))


def session_of(request: Mapping[str, Any]) -> str | None:
    """The conversation that the caller says a request belongs to, where LiteLLM keeps it.

    The same names in the request before it is routed and in the log event's `litellm_params`. LiteLLM's
    own field for it stays empty unless `request_correlation_in_logs` is set.
    """
    return session_among(
        request.get("litellm_session_id"),
        *(mapping(request.get(name)).get("session_id") for name in ("metadata", "litellm_metadata")),
    )


def session_among(named: object, *in_metadata: object) -> str | None:
    """The session, of what a request says in LiteLLM's own field and in each metadata dict."""
    if text_or_none(named):
        return text_or_none(named)
    return text_or_none(next(filter(None, in_metadata), None))
