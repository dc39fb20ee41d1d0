"""Pass-through calls: requests in a provider's own API, which LiteLLM relays. Pure.

LiteLLM logs each as a `pass_through_endpoint`. Of OpenAI's chat, embeddings and responses, Anthropic's
messages, Gemini's and Cohere's it makes tokens and a cost. Of other paths, and of Azure, Mistral and vLLM, it
logs the bodies only. A stream of OpenAI's whose request did not want the usage has the tokens that came out
and none that went in.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from spendmeter_gateway.litellm.fields import mapping, text
from spendmeter_gateway.litellm.payload.estimated_usage import answer_texts, estimated_usage, stream_texts
from spendmeter_gateway.litellm.payload.free_calls import is_free_path
from spendmeter_gateway.litellm.payload.usage_counts import counts_of
from spendmeter_gateway.model import UsageCounts

CALL_TYPES = ("pass_through_endpoint", "llm_passthrough_route", "allm_passthrough_route")
MAX_FRAME_BYTES = 1024 * 1024
_BILLED_BY_TOKENS = re.compile(
    r"completions|embeddings|responses|messages|chat|embed|invoke|converse|invoke-with-response-stream"
    r"|converse-stream|(stream)?generateContent|embedContent|batchEmbedContents|(stream)?rawPredict",
    re.IGNORECASE,
)
_USAGE = re.compile(r'"(?:usage|usageMetadata)":\s*(?=\{)')
_DECODER = json.JSONDecoder()
# The first part of the route: the provider, as LiteLLM's price list calls it.
PROVIDERS = {
    "openai": "openai",
    "openai_passthrough": "openai",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "vertex_ai": "vertex_ai",
    "vertex-ai": "vertex_ai",
    "azure": "azure",
    "azure_ai": "azure_ai",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "mistral": "mistral",
    "vllm": "hosted_vllm",
}
_ACCEPTS_STREAM_OPTIONS = ("openai", "openai_passthrough", "azure", "vllm")


class PassThrough(NamedTuple):
    """One pass-through call, as LiteLLM logs it."""

    method: str
    url: str
    """Of the provider."""
    provider: str
    """By the proxy's own route; empty for one that the operator configured."""
    request: Mapping[str, Any]
    answer: object
    """Its JSON; of a stream, what LiteLLM has logged of it."""

    @property
    def is_free(self) -> bool:
        """Whether it calls no model."""
        return is_free_path(self.method, self.url)

    @property
    def is_billed_by_tokens(self) -> bool:
        """Whether its path is one that every provider bills by tokens."""
        return not self.is_free and _BILLED_BY_TOKENS.fullmatch(_last(self.url)) is not None


def pass_through_of(
    call_type: str, logged: Mapping[str, Any], routes: Iterable[object], answer: object
) -> PassThrough | None:
    """The call of a log event; None where it is none, or was logged without its request.

    `logged` is what LiteLLM logs of such calls alone; `routes` are those that the event may name.
    """
    if call_type not in CALL_TYPES or not logged:
        return None
    return PassThrough(
        text(logged.get("request_method")),
        text(logged.get("url"), 4096),
        PROVIDERS.get(_first(next((route for route in routes if isinstance(route, str)), "")), ""),
        mapping(logged.get("request_body")),
        logged.get("response_body") or answer,
    )


def usage_in(call: PassThrough) -> UsageCounts | None:
    """What the provider says was used, where LiteLLM has not read it; None where it says nothing."""
    answer = mapping(call.answer)
    for name in ("usage", "usageMetadata"):
        if usage := mapping(answer.get(name)):
            return _some(usage)
    logged = answer.get("response", call.answer)
    if not isinstance(logged, str):
        return None
    # Chunks that LiteLLM could not read, as one text. A text in them has its quotes escaped.
    for found in reversed(list(_USAGE.finditer(logged))):
        try:
            usage, _ = _DECODER.raw_decode(logged, found.end())
        except (ValueError, RecursionError):
            continue
        if counts := _some(mapping(usage)):
            return counts
    return None


def estimate_of(call: PassThrough, output_tokens: int) -> UsageCounts:
    """What the call used by its texts, and at least the output tokens that LiteLLM has counted."""
    answer = call.answer
    unread = mapping(answer).get("response")
    came = _texts_in_chunks(unread) if isinstance(unread, str) else answer_texts(answer)
    is_embedding = _last(call.url).lower().startswith(("embed", "batchembed"))
    found = estimated_usage(call.request, came, call_type="embedding" if is_embedding else "acompletion")
    output = 0 if is_embedding else max(output_tokens, found.output_tokens)
    return found._replace(output_tokens=output, total_tokens=found.input_tokens + output)


def ask_for_usage(route: str, body: dict[str, Any]) -> bool:
    """Have a stream in OpenAI's shape say what it used; True where its client did not ask for that itself.

    The chunk that then comes last has no choices, which its client does not expect: see `UsageChunkFilter`.
    """
    path = route.partition("?")[0]
    if _first(path) not in _ACCEPTS_STREAM_OPTIONS or _last(path) != "completions" or not body.get("stream"):
        return False
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        return False
    if options and options.get("include_usage"):
        return False
    body["stream_options"] = {**(options or {}), "include_usage": True}
    return True


class UsageChunkFilter:
    """Leaves the chunk that holds only the usage out of a stream, for a client that did not request it.

    Everything else passes, byte by byte. `usage` is what that chunk held.
    """

    def __init__(self) -> None:
        self._held = b""
        self.usage: UsageCounts | None = None

    def feed(self, data: bytes, *, is_last: bool = False) -> bytes:
        """What to send of the stream so far: whole events, unless one is longer than MAX_FRAME_BYTES."""
        held, passed = self._held + data, []
        while held:
            end = min((at + len(mark) for mark in _ENDS if (at := held.find(mark)) >= 0), default=0)
            if not end:
                break
            frame, held = held[:end], held[end:]
            if not self._is_usage(frame):
                passed.append(frame)
        if held and (is_last or len(held) > MAX_FRAME_BYTES):
            if not self._is_usage(held):
                passed.append(held)
            held = b""
        self._held = held
        return b"".join(passed)

    def _is_usage(self, frame: bytes) -> bool:
        if b'"usage"' not in frame or not frame.startswith(b"data:"):
            return False
        try:
            chunk = json.loads(frame[len(b"data:") :])
        except (ValueError, RecursionError):
            return False
        usage = mapping(mapping(chunk).get("usage"))
        if not usage or mapping(chunk).get("choices") != []:
            return False
        self.usage = counts_of(usage)
        return True


_ENDS = (b"\n\n", b"\r\n\r\n")


class Marks(NamedTuple):
    """What to find in a stream. A text that has a mark has its quotes escaped."""

    end: re.Pattern[bytes]
    """Of the provider's last event."""
    usage: re.Pattern[bytes]
    """A count of what went in, which both say at the beginning; a zero is LiteLLM's, for want of one."""


_ANTHROPIC = Marks(
    re.compile(rb'"message_stop"'),
    re.compile(rb'"(?:cache_(?:read|creation)_)?input_tokens":\s*[1-9]'),
)
_GEMINI = Marks(re.compile(rb'"finishReason"'), re.compile(rb'"promptTokenCount":\s*[1-9]'))
_MARKS = {"messages": _ANTHROPIC, "streamRawPredict": _ANTHROPIC, "streamGenerateContent": _GEMINI}


def marks_of(route: str) -> Marks | None:
    """Those of a stream in Anthropic's or Gemini's shape; None of others, where usage comes with the end."""
    return _MARKS.get(_last(route))


def _some(usage: Mapping[str, Any]) -> UsageCounts | None:
    # Cohere's: its own numbers, or those that it bills.
    for name in ("billed_units", "tokens"):
        if inner := mapping(usage.get(name)):
            usage = inner
            break
    counts = counts_of(usage)
    # Without input it is what LiteLLM itself has counted of a stream.
    return counts if counts.input_tokens else None


def _texts_in_chunks(chunks: str) -> list[str]:
    """The texts of chunks that LiteLLM logs as one text, each event's as if it stood alone."""
    found: list[object] = []
    at = chunks.find("data: {")
    while at >= 0:
        start = at + len("data: ")
        try:
            chunk, end = _DECODER.raw_decode(chunks, start)
        except (ValueError, RecursionError):
            end = start
        else:
            found.append(chunk)
        at = chunks.find("data: {", end)
    return stream_texts(found)


def _first(path: str) -> str:
    return path.lstrip("/").partition("/")[0]


def _last(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return path.rstrip("/").rpartition("/")[2].rpartition(":")[2]
