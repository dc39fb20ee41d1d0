"""What a call used where no provider said so: estimated from what went in and what came out. Pure.

Never zero: a call that was sent has been read. Off the request path a tokenizer can count, else bytes do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from spendmeter_gateway.litellm.request.size import measure, size_of
from spendmeter_gateway.model import RequestSize, UsageCounts

Counter = Callable[[Sequence[str]], int]
"""Tokens of texts, by a real tokenizer."""

# English has about four bytes a token, code and other scripts about three: rather a little too many.
BYTES_PER_TOKEN = 3
# A picture of middle size at OpenAI, Anthropic and Google.
TOKENS_PER_IMAGE = 800
MAX_ANSWER_PARTS = 20_000
_WITHOUT_AN_ANSWER = frozenset({"embedding", "aembedding", "embeddings"})
# Where an answer's text is, whatever the API: chat, text completions, Responses, Anthropic, Gemini.
_ANSWER = frozenset({
    "choices", "message", "delta", "content", "text", "reasoning_content", "thinking", "refusal",
    "arguments", "output", "summary", "input", "partial_json", "tool_calls", "function", "function_call",
    "functionCall", "candidates", "parts", "args", "name", "response", "completion", "audio", "transcript",
})  # fmt: skip
SENT = (
    "messages", "prompt", "input", "system", "instructions", "tools", "functions", "response_format", "text",
    "prediction", "suffix", "stop", "documents", "query", "contents", "systemInstruction",
    "system_instruction",
)  # fmt: skip
"""Where a request's texts are, whatever the API."""


def estimated_usage(
    request: Mapping[str, Any] | Iterable[str],
    answer: str | Iterable[str] = (),
    *,
    call_type: str = "acompletion",
    count: Counter | None = None,
) -> UsageCounts:
    """What a call used, at least one token in: from its body, or its texts, and what came of the answer.

    `count` is a tokenizer; without one bytes are counted. Sounds and files in a body are not counted.
    The result is an estimate: its event says `estimated`.
    """
    sent = _request_size(request, call_type) if isinstance(request, Mapping) else None
    texts = tuple(request) if sent is None and not isinstance(request, Mapping) else ()
    if sent is not None:
        texts = sent.texts
    given = _tokens(texts, count) + (0 if sent is None else sent.images * TOKENS_PER_IMAGE)
    given = max(1, given)
    came = (answer,) if isinstance(answer, str) else tuple(answer)
    output = 0 if call_type in _WITHOUT_AN_ANSWER else _tokens(came, count)
    return UsageCounts(input_tokens=given, output_tokens=output, total_tokens=given + output)


def answer_texts(answer: object) -> list[str]:
    """The texts of an answer, or of a chunk of one, in whatever API's shape; bounded."""
    texts: list[str] = []
    waiting = [answer]
    left = MAX_ANSWER_PARTS
    while waiting and left:
        left -= 1
        part = waiting.pop()
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, list | tuple):
            waiting.extend(part[:left])
        elif isinstance(part, Mapping):
            waiting.extend(value for name, value in part.items() if name in _ANSWER)
        elif hasattr(part, "__dict__"):
            waiting.append(vars(part))
    return texts


def stream_texts(chunks: Iterable[object]) -> list[str]:
    """The texts of a stream's chunks, each once: OpenAI's Responses repeats a part when it is done."""
    texts: list[str] = []
    repeated: list[str] = []
    for chunk in chunks:
        (repeated if _repeats(chunk) else texts).extend(answer_texts(chunk))
    return texts or repeated


def _repeats(chunk: object) -> bool:
    kind = chunk.get("type") if isinstance(chunk, Mapping) else getattr(chunk, "type", None)
    return isinstance(kind, str) and kind.startswith("response.") and not kind.endswith(".delta")


CONTENT = ("messages", "prompt", "input", "contents")
"""Of these an API reads one. LiteLLM's log event has what was sent under two: the longer counts."""


def _request_size(request: Mapping[str, Any], call_type: str) -> RequestSize | None:
    # Not all of it: a log event has much beside what was sent.
    body = {name: request[name] for name in SENT if request.get(name) is not None}
    kind = "embedding" if call_type in _WITHOUT_AN_ANSWER else "acompletion"
    contents = {name: measure({name: body[name]}, kind) for name in CONTENT if name in body}
    if len(contents) > 1:
        longest = max(contents, key=lambda name: _weight(contents[name]))
        body = {name: value for name, value in body.items() if name == longest or name not in contents}
    return measure(body, kind)


def _weight(size: RequestSize | None) -> int:
    return 0 if size is None else size.text_bytes + size.images * TOKENS_PER_IMAGE * BYTES_PER_TOKEN


def _tokens(texts: Sequence[str], count: Counter | None) -> int:
    if not texts:
        return 0
    if count is not None:
        return count(texts)
    return -(-sum(map(size_of, texts)) // BYTES_PER_TOKEN)
