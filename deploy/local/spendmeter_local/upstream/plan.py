"""The fake model's answer to a request: it depends on the request alone and is the same each time.

A directive anywhere in the last user message sets it, and passes through any proxy in between:

    [[in=120 out=40 cached=20 delay_ms=50]]

| name | meaning | else |
| --- | --- | --- |
| `in` | input tokens, cached ones included | words of the request |
| `out` | output tokens, reasoning included; never above the request's own maximum | words of the reply |
| `cached`, `cache_write` | input tokens read from, written to the prompt cache | 0 |
| `reasoning` | output tokens spent on reasoning | 0 |
| `delay_ms` | wait before the first byte | 0 |
| `chunk_delay_ms` | wait before each further chunk of a stream | 0 |
| `chunks` | chunks that carry text in a stream | up to 8 |
| `status` | answer this error instead | 200 |
| `nonce` | a number that the log of calls repeats, so that the sender is known without the proxy | none |
| `tool` | rounds that answer with a call of the request's first tool, where it has tools | 0 |
| `usage`, `fault` | how the answer goes wrong: quirks.py | as it should be |
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

from spendmeter_local.upstream.quirks import Fault, UsageForm

MAX_TOKENS = 200_000
MAX_DELAY_MS = 60_000
DEFAULT_CHUNKS = 8

SENTENCES = (
    "A budget is a promise you make to your future self.",
    "Spend is counted to the last nano-dollar, as it happens.",
    "What is measured late is paid for early.",
    "Every request has a price, and someone who calls for it.",
    "A limit that is known in advance surprises nobody.",
    "Small costs add up; that is the whole trouble with them.",
)
_DIRECTIVE = re.compile(r"\[\[([^\[\]]*)\]\]")
_BOUNDS = {
    "in": MAX_TOKENS,
    "out": MAX_TOKENS,
    "cached": MAX_TOKENS,
    "cache_write": MAX_TOKENS,
    "reasoning": MAX_TOKENS,
    "delay_ms": MAX_DELAY_MS,
    "chunk_delay_ms": MAX_DELAY_MS,
    "chunks": MAX_TOKENS,
    "status": 599,
    "nonce": 10**15,
    "tool": 9,
}
_CHOICES: dict[str, tuple[str, ...]] = {"usage": get_args(UsageForm), "fault": get_args(Fault)}


class BadDirectiveError(ValueError):
    """The directive is invalid; the answer is 400 with this message."""


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """One answer. Tokens are counted like OpenAI's: input includes cached, output includes reasoning."""

    reply: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    delay_ms: int = 0
    chunk_delay_ms: int = 0
    chunks: int = DEFAULT_CHUNKS
    status: int = 200
    cut_short: bool = False
    """Whether the request's own maximum ended the reply."""
    input_word_count: int = 0
    """Of the request's texts without the directive: the basis of an estimate without counts."""
    nonce: int | None = None
    tool_rounds: int = 0
    usage: UsageForm = "plain"
    fault: Fault = "none"

    @property
    def text(self) -> str:
        return " ".join(self.reply)

    def pieces(self) -> Iterator[str]:
        """The text in at most `chunks` pieces of about one size; joined they are `text`."""
        count = max(1, min(self.chunks, len(self.reply)))
        for index in range(count):
            first, end = (len(self.reply) * edge // count for edge in (index, index + 1))
            yield (" " if index else "") + " ".join(self.reply[first:end])


def plan_chat(body: dict[str, Any]) -> AnswerPlan:
    """For `messages` (OpenAI's, Anthropic's) or the Responses API's `input`. Raises BadDirectiveError."""
    messages = body.get("messages", body.get("input", ""))
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    texts = [(message.get("role"), _text(message.get("content"))) for message in messages]
    if body.get("system"):
        texts.insert(0, ("system", _text(body["system"])))
    text = next((text for role, text in reversed(texts) if role == "user"), "")
    return _plan(text, " ".join(text for _, text in texts), _maximum(body))


def plan_completion(body: dict[str, Any]) -> AnswerPlan:
    """For `prompt`. Raises BadDirectiveError."""
    prompt = _text(body.get("prompt"))
    return _plan(prompt, prompt, _maximum(body))


def plan_texts(texts: str) -> AnswerPlan:
    """For a request with its text elsewhere: a query, a form's field. Raises BadDirectiveError."""
    return _plan(texts, texts, None)


def plan_embedding(body: dict[str, Any]) -> AnswerPlan:
    """For `input`: no output tokens, whatever a directive says. Raises BadDirectiveError."""
    texts = _text(body.get("input"))
    return replace(_plan(texts, texts, None), reply=(), output_tokens=0, reasoning_tokens=0)


def _plan(text: str, everything: str, maximum: int | None) -> AnswerPlan:
    said, chosen = _directive(text)
    words_in = len(_DIRECTIVE.sub(" ", everything).split())
    reply = SENTENCES[words_in % len(SENTENCES)].split()
    wanted = said.get("out", len(reply))
    output = wanted if maximum is None else min(wanted, maximum)
    reasoning = min(said.get("reasoning", 0), output)
    return AnswerPlan(
        reply=_reply(words_in % len(SENTENCES), output - reasoning),
        input_tokens=said.get("in", words_in),
        output_tokens=output,
        cached_tokens=said.get("cached", 0),
        cache_write_tokens=said.get("cache_write", 0),
        reasoning_tokens=reasoning,
        delay_ms=said.get("delay_ms", 0),
        chunk_delay_ms=said.get("chunk_delay_ms", 0),
        chunks=said.get("chunks", DEFAULT_CHUNKS),
        status=said.get("status", 200),
        cut_short=output < wanted,
        input_word_count=words_in,
        nonce=said.get("nonce"),
        tool_rounds=said.get("tool", 0),
        usage=chosen.get("usage", "plain"),  # type: ignore[arg-type]  # checked by _directive
        fault=chosen.get("fault", "none"),  # type: ignore[arg-type]
    )


def _directive(text: str) -> tuple[dict[str, int], dict[str, str]]:
    """The numbers of a directive, and its other values."""
    found = _DIRECTIVE.search(text)
    said: dict[str, int] = {}
    chosen: dict[str, str] = {}
    for item in found.group(1).split() if found else ():
        name, _, number = item.partition("=")
        if number in _CHOICES.get(name, ()):
            chosen[name] = number
            continue
        if name not in _BOUNDS or not number.isdecimal() or int(number) > _BOUNDS[name]:
            known = ", ".join(
                [f"{known}=0..{bound}" for known, bound in _BOUNDS.items()]
                + [f"{known}={'|'.join(values)}" for known, values in _CHOICES.items()]
            )
            raise BadDirectiveError(f"{item!r} is not one of {known}")
        said[name] = int(number)
    cached = said.get("cached", 0) + said.get("cache_write", 0)
    if cached > said.get("in", MAX_TOKENS) or (cached and "in" not in said):
        raise BadDirectiveError("cached and cache_write are parts of in: give an in that holds them")
    if not 200 <= said.get("status", 200) <= 599:
        raise BadDirectiveError("status must be 200..599")
    return said, chosen


@lru_cache(maxsize=1024)
def _reply(start: int, count: int) -> tuple[str, ...]:
    """`count` words of the sentences, repeated in turn, beginning with sentence number `start`."""
    circle = " ".join(SENTENCES[start:] + SENTENCES[:start]).split()
    return tuple(circle[index % len(circle)] for index in range(count))


def _maximum(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if isinstance(body.get(name), int):
            return int(body[name])
    return None


def _text(content: Any) -> str:
    """The text of a content of any of the three APIs: a string, or parts with a `text`."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(_text(part.get("text") if isinstance(part, dict) else part) for part in content)
    return ""


def tool_call_of(body: dict[str, Any], rounds: int) -> str | None:
    """The request's tool to call now; None once `rounds` tools have answered in this conversation."""
    messages, tools = body.get("messages"), body.get("tools")
    if not rounds or not isinstance(messages, list) or not isinstance(tools, list):
        return None
    answered = sum(1 for one in messages if isinstance(one, dict) and one.get("role") == "tool")
    names = [_name(tool) for tool in tools if isinstance(tool, dict)]
    return next((name for name in names if name), None) if answered < rounds else None


def _name(tool: dict[str, Any]) -> str | None:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return name if isinstance(name, str) else None
