"""What a request asks for, as far as it bounds its cost: how much goes in, how much may come out. Pure.

A text has at most as many tokens as UTF-8 bytes, whatever the tokenizer. Adding up lengths needs
microseconds, counting tokens milliseconds.
"""

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from spendmeter_gateway.litellm.request.controls import KNOWN
from spendmeter_gateway.model import RequestSize

# Reading more of a body than this would be felt; such a request is bounded by the model's window.
MAX_PARTS = 20_000

MAXIMA = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""How the routes call the maximum of an answer."""
_EVERY_MAXIMUM = frozenset(
    {
        *MAXIMA, "maxOutputTokens", "maxTokens", "max_new_tokens", "max_tokens_to_sample", "num_predict",
        "max_gen_len", "maxTokenCount", "max_length",
    }
)  # fmt: skip
"""And every provider: any of these may end an answer, so the highest of those given is the bound."""
_CONTAINERS = frozenset(
    {
        "extra_body", "optional_params", "generationConfig", "generation_config", "config", "options",
        "inferenceConfig", "inference_config", "textGenerationConfig", "parameters",
        "additionalModelRequestFields",
    }
)  # fmt: skip
"""Where more parameters stand, one within another: the provider reads them beside or over the body's."""
_ANSWERS = frozenset({"n", "best_of", "candidateCount", "candidate_count", "num_return_sequences"})
_MAX_CONTAINERS = 50
_OWN_MAXIMUM = {
    "completion": "max_tokens",
    "acompletion": "max_tokens",
    "text_completion": "max_tokens",
    "atext_completion": "max_tokens",
    "anthropic_messages": "max_tokens",
    "responses": "max_output_tokens",
    "aresponses": "max_output_tokens",
    "generate_content": "maxOutputTokens",
    "agenerate_content": "maxOutputTokens",
    "generate_content_stream": "maxOutputTokens",
    "agenerate_content_stream": "maxOutputTokens",
}
_GEMINI = frozenset(name for name, maximum in _OWN_MAXIMUM.items() if maximum == "maxOutputTokens")
_WITHOUT_OUTPUT = ("embedding", "embeddings", "aembedding")
_IMAGES = ("image_generation", "aimage_generation")
_RERANK = ("rerank", "arerank")
_SPEECH = ("speech", "aspeech")
ORDERED_BY_UNITS = (*_IMAGES, *_RERANK)
"""Calls whose request says how many pictures are to be made, or documents ranked."""
_NOT_READ = KNOWN | _CONTAINERS | {"model", "stream", "user"}
"""What is no text of the request's. Any other parameter may be read by the model, known to us or not."""
_STORED_BY_THE_PROVIDER = (
    "previous_response_id", "conversation", "container", "mcp_servers", "prompt_id", "cachedContent",
    "cached_content", "litellm_system_prompt",
)  # fmt: skip
_PAID = (
    "web_search_options", "mcp_servers", "plugins", "search_parameters", "enable_search", "models",
    "vector_store_ids", "google_search", "data_sources",
)  # fmt: skip
"""What a provider bills beside tokens, per use, or for a model of the client's choice (OpenRouter)."""
_PICTURES = ("image_url", "image", "input_image")
_PICTURE_DATA = ("image_url", "source", "file_id", "image")
_OPEN_PARTS = (
    "input_audio", "audio", "file", "input_file", "document", "video", "video_url", "container_upload",
    "item_reference", "media",
)  # fmt: skip
# Gemini says the kind of a part by its key.
_OPEN_KEYS = frozenset({"inlineData", "inline_data", "fileData", "file_data"})
_TOOLS = ("tools", "functions", "response_format", "text")
_TOOLS_WITHOUT_PRICE = (
    "function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview", "namespace",
)  # fmt: skip
# Anthropic's, which the client runs itself; dated.
_KINDS_WITHOUT_PRICE = ("bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_")
_KEYS_OF_A_FUNCTION = frozenset(
    {
        "type", "function", "name", "description", "parameters", "strict", "input_schema", "cache_control",
        "functionDeclarations", "function_declarations", "toolSpec", "defer_loading", "input_examples",
        "eager_input_streaming", "allowed_callers", "parametersJsonSchema", "response", "outputSchema",
    }
)  # fmt: skip
# Cohere bills 100 documents as one search, and counts each 500 tokens of a document, query included, as one.
_DOCUMENTS_OF_A_SEARCH = 100
_BYTES_OF_A_CHUNK = 250

# What providers put around a request: markers of roles, the prompt that explains tools.
_TOKENS_OF_A_REQUEST = 32
_TOKENS_OF_A_PART = 8
_TOKENS_OF_AN_ENTRY = 6
_TOKENS_OF_TOOLS = 1_000
_CHARS_OF_A_FLOAT = 25
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_UNHURRIED = ("default", "standard", "standard_only", "flex", "scale", "batch")
# LiteLLM's own, which no provider is sent.
_CHARS_OF_AN_OBJECT = 100
# LiteLLM turns an effort into a budget for thinking of at most so many tokens; answers must be longer.
_TOKENS_OF_AN_EFFORT = 4_096


def measure(data: Mapping[str, Any], call_type: str) -> RequestSize | None:
    """The size of a call, as the provider gets it; None where nothing in the call bounds its cost.

    `data` is a request's body or, better, a call's final parameters: what stands in `extra_body` and
    the like goes over what stands in the body.
    """
    is_media = call_type in ORDERED_BY_UNITS or call_type in _SPEECH
    if call_type not in _OWN_MAXIMUM and call_type not in _WITHOUT_OUTPUT and not is_media:
        return None
    positions = list(_positions(data))
    reading = _Reading()
    for i, position in enumerate(positions):
        for name, value in position.items():
            if value is not None and name not in (_NOT_READ if i == 0 else _CONTAINERS):
                reading.read(value, may_hold_media=name not in _TOOLS)
                reading.frame_tokens += _TOKENS_OF_AN_ENTRY + (size_of(name) if i else 0)
    return RequestSize(
        text_bytes=reading.text_bytes,
        frame_tokens=reading.frame_tokens
        + _TOKENS_OF_A_REQUEST
        + (_TOKENS_OF_TOOLS if any(map(_has_tools, positions)) else 0),
        images=reading.images,
        is_open=reading.is_open
        or any(position.get(name) for position in positions for name in _STORED_BY_THE_PROVIDER),
        has_paid_tools=len(positions) > _MAX_CONTAINERS or any(map(_has_paid_tools, positions)),
        has_output=call_type in _OWN_MAXIMUM,
        max_output_tokens=_maximum(positions),
        least_output_tokens=max(map(_least, positions)),
        answers=_answers(data, positions),
        is_hurried=any(map(_is_hurried, positions)),
        caches_for_an_hour=reading.caches_for_an_hour,
        texts=tuple(reading.texts),
        made_images=_highest(positions, _ANSWERS) if call_type in _IMAGES else 0,
        made_pixels=_pixels(positions),
        searches=_searches(data) if call_type in _RERANK else 0,
        ranked_tokens=_query_bytes(data) if call_type in _RERANK else 0,
        is_speech=call_type in _SPEECH,
    )


def limited(data: dict[str, Any], call_type: str, max_output_tokens: int) -> None:
    """Put a maximum for the answer into a call's final parameters; one that is there is only lowered.

    Wherever the provider may read one. `extra_body` and the like are copied: a call's retries share them.
    """
    waiting: list[dict[str, Any]] = [data]
    has_any = False
    seen = 0
    while waiting and seen <= _MAX_CONTAINERS:
        position = waiting.pop()
        seen += 1
        for name in _EVERY_MAXIMUM & position.keys():
            given = _limit(position[name])
            if position is data and position[name] is None:
                continue
            position[name] = max_output_tokens if given is None else min(given, max_output_tokens)
            has_any = True
        for name in _CONTAINERS & position.keys():
            if isinstance(position[name], dict):
                position[name] = dict(position[name])
                waiting.append(position[name])
    own = _OWN_MAXIMUM.get(call_type, MAXIMA[0])
    if not has_any:
        if call_type in _GEMINI:
            name = "config" if isinstance(data.get("config"), dict) else "generationConfig"
            data[name] = {**(data[name] if isinstance(data.get(name), dict) else {}), own: max_output_tokens}
        else:
            data[own] = max_output_tokens
    dropped = data.get("additional_drop_params")
    if isinstance(dropped, list) and _drops_a_maximum(dropped):
        # With it, a client would have LiteLLM drop the maximum again.
        data["additional_drop_params"] = [name for name in dropped if not _drops_a_maximum([name])]


def _drops_a_maximum(names: object) -> bool:
    return isinstance(names, list) and any(isinstance(n, str) and n in _EVERY_MAXIMUM for n in names)


def _positions(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Where the parameters of a call stand: itself first, then what is within, a bounded number."""
    waiting: list[Mapping[str, Any]] = [data]
    for _ in range(_MAX_CONTAINERS + 1):
        if not waiting:
            return
        position = waiting.pop()
        yield position
        for name in _CONTAINERS & position.keys():
            if isinstance(position[name], dict):
                waiting.append(position[name])


def _maximum(positions: list[Mapping[str, Any]]) -> int | None:
    """The highest maximum that is named anywhere; None where there is none or one may be dropped."""
    highest: int | None = None
    for i, position in enumerate(positions):
        for name in _EVERY_MAXIMUM & position.keys():
            limit = _limit(position[name])
            if limit is None:
                if i == 0 and position[name] is None:
                    continue
                return None
            highest = limit if highest is None else max(highest, limit)
    dropped = positions[0].get("additional_drop_params")
    return (
        None
        if isinstance(dropped, list) and any(isinstance(d, str) and d in _EVERY_MAXIMUM for d in dropped)
        else highest
    )


def _limit(value: object) -> int | None:
    """A number of tokens; None for what a provider may read as none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, float):
        return int(value) + 1 if isfinite(value) and value >= 0 else None
    return None


def _highest(positions: list[Mapping[str, Any]], names: frozenset[str]) -> int:
    return max(
        [1, *(_limit(position[name]) or 1 for position in positions for name in names & position.keys())]
    )


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
        """Add a value. A loop, since a client decides how deep it is."""
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
        self.text_bytes += size_of(text)
        self.texts.append(text)

    def _read_dict(self, part: dict[str, Any], waiting: list[object], may_hold_media: bool) -> None:
        kind = part.get("type")
        is_picture = may_hold_media and isinstance(kind, str) and kind in _PICTURES
        if is_picture:
            self.images += 1
        elif (may_hold_media and isinstance(kind, str) and kind in _OPEN_PARTS) or (
            may_hold_media and not part.keys().isdisjoint(_OPEN_KEYS)
        ):
            self.is_open = True
        self.frame_tokens += _TOKENS_OF_A_PART + _TOKENS_OF_AN_ENTRY * len(part)
        for name, value in part.items():
            if is_picture and name in _PICTURE_DATA:
                continue
            if name == "cache_control":
                self.caches_for_an_hour |= isinstance(value, dict) and value.get("ttl") == "1h"
                continue
            self.frame_tokens += size_of(str(name))
            waiting.append(value)


def size_of(text: str) -> int:
    """Its bytes in UTF-8, also of what is no text that can be written."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _digits(value: object) -> int:
    """How long a number, or whatever else it is, is at the most when it is written out."""
    if isinstance(value, int):
        return value.bit_length() // 3 + 2
    return _CHARS_OF_A_FLOAT if isinstance(value, float) else _CHARS_OF_AN_OBJECT


def _has_tools(position: Mapping[str, Any]) -> bool:
    return bool(position.get("tools") or position.get("functions") or position.get("response_format"))


def _has_paid_tools(position: Mapping[str, Any]) -> bool:
    if any(position.get(name) not in (None, False) for name in _PAID):
        return True
    tools = position.get("tools")
    if tools is None:
        return False
    return not isinstance(tools, list) or not all(map(_is_free, tools))


def _is_free(tool: object) -> bool:
    """Whether the client runs the tool itself. Gemini names its own by a key, others by a type."""
    if not isinstance(tool, dict):
        return False
    kind = tool.get("type")
    if kind is None:
        return tool.keys() <= _KEYS_OF_A_FUNCTION
    return isinstance(kind, str) and (kind in _TOOLS_WITHOUT_PRICE or kind.startswith(_KINDS_WITHOUT_PRICE))


def _is_hurried(position: Mapping[str, Any]) -> bool:
    tier = position.get("service_tier")
    is_known_as_slow = tier is None or (isinstance(tier, str) and tier in _UNHURRIED)
    return not is_known_as_slow or bool(position.get("speed"))


def _least(position: Mapping[str, Any]) -> int:
    thinking = position.get("thinking")
    if isinstance(thinking, dict) and (budget := _limit(thinking.get("budget_tokens"))):
        return budget + 1
    effort = position.get("reasoning_effort") or position.get("reasoning")
    return _TOKENS_OF_AN_EFFORT + 1 if effort and effort != "none" else 0


def _answers(data: Mapping[str, Any], positions: list[Mapping[str, Any]]) -> int:
    """How many answers the output price is paid for: choices, and prompts where there are several."""
    prompts = max((_prompts(position.get("prompt")) for position in positions), default=1)
    return _highest(positions, _ANSWERS) * prompts


def _prompts(prompt: object) -> int:
    is_several = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], str | list)
    return len(prompt) if is_several and isinstance(prompt, list) else 1


def _pixels(positions: list[Mapping[str, Any]]) -> int | None:
    """Width times height of `1024x1792`, the largest of those named."""
    sizes = [position["size"] for position in positions if isinstance(position.get("size"), str)]
    found = [match for size in sizes if (match := _SIZE.fullmatch(size))]
    if not found or len(found) != len(sizes):
        return None
    return max(int(match[1]) * int(match[2]) for match in found)


def _query_bytes(data: Mapping[str, Any]) -> int:
    query, documents = data.get("query"), data.get("documents")
    size = len(query.encode("utf-8", "surrogatepass")) if isinstance(query, str) else 0
    return size * (len(documents) if isinstance(documents, list) else 1)


def _searches(data: Mapping[str, Any]) -> int:
    documents = data.get("documents")
    if not isinstance(documents, list):
        return 1
    chunks = 0
    for document in documents[:MAX_PARTS]:
        reading = _Reading()
        reading.read(document, may_hold_media=False)
        chunks += reading.text_bytes // _BYTES_OF_A_CHUNK + 1
    chunks += max(0, len(documents) - MAX_PARTS)
    return -(-chunks // _DOCUMENTS_OF_A_SEARCH) or 1
