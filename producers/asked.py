"""What a request asks for, as far as it bounds its cost: how much goes in, how much may come out. Pure.

A text has at most as many tokens as UTF-8 bytes, whatever the tokenizer. To add up lengths takes
microseconds where to count tokens takes milliseconds.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# Reading more of a body than this would be felt; such a request is bounded by the model's window.
MAX_PARTS = 20_000

MAXIMA = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""How the routes call the maximum of an answer."""
_OWN_MAXIMUM = {
    "completion": "max_tokens",
    "acompletion": "max_tokens",
    "text_completion": "max_tokens",
    "atext_completion": "max_tokens",
    "anthropic_messages": "max_tokens",
    "responses": "max_output_tokens",
    "aresponses": "max_output_tokens",
}
_WITHOUT_OUTPUT = ("embedding", "embeddings", "aembedding")
_FIRST_LEVEL = (
    "messages", "prompt", "input", "system", "instructions", "tools", "functions", "response_format",
    "text", "prediction", "suffix", "stop", "documents",
)  # fmt: skip
_STORED_BY_THE_PROVIDER = ("previous_response_id", "conversation", "container", "mcp_servers", "prompt_id")
_PICTURES = ("image_url", "image", "input_image")
_PICTURE_DATA = ("image_url", "source", "file_id", "image")
_OPEN_PARTS = (
    "input_audio", "audio", "file", "input_file", "document", "video", "video_url", "container_upload",
    "item_reference", "media",
)  # fmt: skip
_TOOLS = ("tools", "functions", "response_format", "text")
_TOOLS_WITHOUT_PRICE = (None, "function", "custom")

# What providers put around a request: markers of roles, the prompt that explains tools.
_TOKENS_OF_A_REQUEST = 32
_TOKENS_OF_A_PART = 8
_TOKENS_OF_AN_ENTRY = 6
_TOKENS_OF_TOOLS = 1_000
_CHARS_OF_A_FLOAT = 25
# LiteLLM's own, which no provider is sent.
_CHARS_OF_AN_OBJECT = 100
# LiteLLM turns an effort into a budget for thinking of at most so many tokens; answers must be longer.
_TOKENS_OF_AN_EFFORT = 4_096


class Asked(NamedTuple):
    """The size of one request."""

    text_bytes: int
    frame_tokens: int
    """Tokens that no text accounts for."""
    images: int
    is_open: bool
    """It brings or names something whose tokens cannot be told from here."""
    has_paid_tools: bool
    """It may use tools that the provider bills per use, as often as the model likes."""
    has_output: bool
    max_output_tokens: int | None
    """Per answer, as the client says."""
    least_output_tokens: int
    answers: int
    is_hurried: bool
    """It may be served at a price for priority."""
    caches_for_an_hour: bool
    texts: tuple[str, ...]


def asked_by(data: Mapping[str, Any], call_type: str) -> Asked | None:
    """The size of a request body; None for calls whose cost is in neither tokens in nor tokens out."""
    if call_type not in _OWN_MAXIMUM and call_type not in _WITHOUT_OUTPUT:
        return None
    most = _most(data)
    data = {**data, **_extra(data)}
    reading = _Reading()
    for name in _FIRST_LEVEL:
        if data.get(name) is not None:
            reading.read(data[name], may_hold_media=name not in _TOOLS)
    return Asked(
        text_bytes=reading.text_bytes,
        frame_tokens=reading.frame_tokens
        + _TOKENS_OF_A_REQUEST
        + (_TOKENS_OF_TOOLS if _has_tools(data) else 0),
        images=reading.images,
        is_open=reading.is_open or any(data.get(name) for name in _STORED_BY_THE_PROVIDER),
        has_paid_tools=_has_paid_tools(data),
        has_output=call_type in _OWN_MAXIMUM,
        max_output_tokens=most,
        least_output_tokens=_least(data),
        answers=_answers(data),
        is_hurried=data.get("service_tier") in ("auto", "priority", "ultrafast") or bool(data.get("speed")),
        caches_for_an_hour=reading.caches_for_an_hour,
        texts=tuple(reading.texts),
    )


def limited(data: dict[str, Any], call_type: str, max_output_tokens: int) -> None:
    """Put a maximum for the answer into a request; one that it has already is only ever lowered.

    Also where `extra_body` would override it at the provider, and where LiteLLM was told to leave it out.
    """
    given = [name for name in MAXIMA if _count(data.get(name)) is not None]
    for name in given or [_OWN_MAXIMUM.get(call_type, MAXIMA[0])]:
        data[name] = _lower(data.get(name), max_output_tokens)
    if extra := _extra(data):
        lowered = {name: _lower(extra[name], max_output_tokens) for name in MAXIMA if name in extra}
        data["extra_body"] = {**extra, **lowered}
    dropped = data.get("additional_drop_params")
    if isinstance(dropped, list):
        data["additional_drop_params"] = [name for name in dropped if name not in MAXIMA]


def _lower(given: object, most: int) -> int:
    count = _count(given)
    return most if count is None else min(count, most)


def _extra(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What LiteLLM adds to the body that a provider gets, over what stands there."""
    extra = data.get("extra_body")
    return extra if isinstance(extra, dict) else {}


def _most(data: Mapping[str, Any]) -> int | None:
    """The highest maximum that the provider may go by; None where one of them is no number."""
    given = [of[name] for of in (data, _extra(data)) for name in MAXIMA if of.get(name) is not None]
    counts = [_count(value) for value in given]
    return None if None in counts else max((n for n in counts if n is not None), default=None)


class _Reading:
    """Adds up a body, whatever its shape: each API has its own, and they change."""

    def __init__(self) -> None:
        self.text_bytes = 0
        self.frame_tokens = 0
        self.images = 0
        self.is_open = False
        self.caches_for_an_hour = False
        self.texts: list[str] = []
        self._parts_left = MAX_PARTS

    def read(self, value: object, *, may_hold_media: bool) -> None:
        """Take a value in. A loop, since a client decides how deep it is."""
        waiting = [value]
        while waiting:
            self._parts_left -= 1
            if self._parts_left < 0:
                self.is_open = True
                return
            part = waiting.pop()
            if isinstance(part, str):
                self._read_text(part)
            elif isinstance(part, dict):
                self._read_dict(part, waiting, may_hold_media)
            elif isinstance(part, list | tuple):
                self.frame_tokens += _TOKENS_OF_A_PART
                waiting.extend(part)
            elif part is not None:
                self.frame_tokens += _digits(part)

    def _read_text(self, text: str) -> None:
        self.text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self.texts.append(text)

    def _read_dict(self, part: dict[str, Any], waiting: list[object], may_hold_media: bool) -> None:
        kind = part.get("type")
        is_picture = may_hold_media and isinstance(kind, str) and kind in _PICTURES
        if is_picture:
            self.images += 1
        elif may_hold_media and isinstance(kind, str) and kind in _OPEN_PARTS:
            self.is_open = True
        self.frame_tokens += _TOKENS_OF_A_PART + _TOKENS_OF_AN_ENTRY * len(part)
        for name, value in part.items():
            if is_picture and name in _PICTURE_DATA:
                continue
            if name == "cache_control":
                self.caches_for_an_hour |= isinstance(value, dict) and value.get("ttl") == "1h"
                continue
            self.frame_tokens += len(str(name))
            waiting.append(value)


def _digits(value: object) -> int:
    """How long a number, or whatever else it is, is at the most when it is written out."""
    if isinstance(value, int):
        return value.bit_length() // 3 + 2
    return _CHARS_OF_A_FLOAT if isinstance(value, float) else _CHARS_OF_AN_OBJECT


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _has_tools(data: Mapping[str, Any]) -> bool:
    return bool(data.get("tools") or data.get("functions") or data.get("response_format"))


def _has_paid_tools(data: Mapping[str, Any]) -> bool:
    if data.get("web_search_options") is not None or data.get("mcp_servers"):
        return True
    tools = data.get("tools")
    return isinstance(tools, list) and any(
        not isinstance(tool, dict) or tool.get("type") not in _TOOLS_WITHOUT_PRICE for tool in tools
    )


def _least(data: Mapping[str, Any]) -> int:
    thinking = data.get("thinking")
    if isinstance(thinking, dict) and (budget := _count(thinking.get("budget_tokens"))):
        return budget + 1
    effort = data.get("reasoning_effort") or data.get("reasoning")
    return _TOKENS_OF_AN_EFFORT + 1 if effort and effort != "none" else 0


def _answers(data: Mapping[str, Any]) -> int:
    """How many answers the output price is paid for: choices, and prompts where there are several."""
    choices = max(_count(data.get("n")) or 1, _count(data.get("best_of")) or 1)
    prompts = data.get("prompt")
    is_several = isinstance(prompts, list) and bool(prompts) and isinstance(prompts[0], str | list)
    return choices * (len(prompts) if is_several and isinstance(prompts, list) else 1)
