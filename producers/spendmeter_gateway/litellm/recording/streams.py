"""What LiteLLM has read of a stream: where no chunk of it said what was used, LiteLLM counts tokens itself.

Its log event does not say which of both it was. The stream knows, so a call remembers its stream.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import litellm
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.responses import streaming_iterator

_ALREADY: Final = "_spendmeter"
_ESTIMATE: Final = "_estimate_usage_safely"


def observe_streams(note: Callable[[object], None], wait: Callable[[], Callable[[], None]]) -> None:
    """Have `note` called with each stream that LiteLLM begins to read, in the context of its call. Once.

    Some providers' streams (Gemini's) are sent when they are first read, long after LiteLLM has said that it
    sends: for each of these `wait` is called, and what it returns once the stream is sent.
    """
    own = CustomStreamWrapper.__init__
    if hasattr(own, _ALREADY):
        return

    def begin(self: Any, *given: Any, **named: Any) -> None:
        send = named.get("make_call")
        if send is not None and (given[0] if given else named.get("completion_stream")) is None:
            named["make_call"] = _after(wait(), send)
        own(self, *given, **named)
        note(self)

    setattr(begin, _ALREADY, True)
    CustomStreamWrapper.__init__ = begin


def observe_estimates(note: Callable[[], None]) -> None:
    """Have `note` called where LiteLLM counts a Responses stream itself, as no event of it has usage. Once.

    What it counts it sends on as if the provider had said it. Older releases lack the function.
    """
    own = getattr(streaming_iterator, _ESTIMATE, None)
    if own is None or hasattr(own, _ALREADY):
        return

    def estimate(*given: Any, **named: Any) -> Any:
        note()
        return own(*given, **named)

    setattr(estimate, _ALREADY, True)
    setattr(streaming_iterator, _ESTIMATE, estimate)


def _after(first: Callable[[], None], send: Callable[..., Any]) -> Callable[..., Any]:
    def both(*given: Any, **named: Any) -> Any:
        first()
        return send(*given, **named)

    return both


def chunks_of(stream: object) -> Sequence[object]:
    """What LiteLLM has read of a stream so far; empty for one that is not known."""
    chunks = getattr(stream, "chunks", None)
    return chunks if isinstance(chunks, list) else ()


def lacks_usage(stream: object) -> bool:
    """Whether no chunk that was read of the stream says what was used. False for one that is not known."""
    chunks = chunks_of(stream)
    # Nearly always the last one has it.
    return bool(chunks) and not any(_tokens_in(chunk) for chunk in reversed(chunks))


def response_id_of(stream: object) -> str | None:
    """What the answer is called, as LiteLLM will log it; None before its first chunk was read."""
    chunks = chunks_of(stream)
    found = getattr(chunks[0], "id", None) if chunks else None
    return found if isinstance(found, str) else None


def is_unfinished(stream: object) -> bool:
    """Whether the provider has not said that its answer is whole: it broke off, or the client left."""
    if not isinstance(stream, CustomStreamWrapper) or stream.received_finish_reason is not None:
        return False
    # Some providers say it on their last chunk of text, which to LiteLLM is the middle of the stream.
    return not getattr(stream, "intermittent_finish_reason", None) and not any(
        _has_reason(chunk) for chunk in reversed(stream.chunks)
    )


def usage_said(stream: object) -> object:
    """The usage that the provider said at the end of a stream, which LiteLLM may have read and not logged.

    None where it said none, or where the end has not come: what was said before it is only the beginning.
    """
    if not isinstance(stream, CustomStreamWrapper) or is_unfinished(stream) or lacks_usage(stream):
        return None
    try:
        whole = litellm.stream_chunk_builder(chunks=list(stream.chunks), messages=stream.messages)
    except Exception:  # it raises whatever it met in a chunk
        return None
    return getattr(whole, "usage", None)


def _has_reason(chunk: object) -> bool:
    return any(getattr(choice, "finish_reason", None) for choice in getattr(chunk, "choices", None) or ())


def _tokens_in(chunk: object) -> bool:
    usage = getattr(chunk, "usage", None)
    return bool(getattr(usage, "prompt_tokens", 0) or getattr(usage, "completion_tokens", 0))
