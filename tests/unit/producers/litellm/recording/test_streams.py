"""What is known of a stream: when it is sent, what of it was sent on, and which answers say what was used."""

import json
from typing import Any

import pytest
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from pydantic import BaseModel, Field

from spendmeter.domain.matching import Subject
from spendmeter_gateway.exchange import Call, Exchange
from spendmeter_gateway.litellm.payload.pass_through import marks_of
from spendmeter_gateway.litellm.payload.usage_counts import usage_in_gemini
from spendmeter_gateway.litellm.recording.streams import observe_streams
from spendmeter_gateway.model import Caller, Deployment


class GoogleAnswer(BaseModel):
    """As Google's library has it, where that is installed."""

    usage_metadata: dict[str, int] = Field(alias="usageMetadata")


MESSAGES, GEMINI = "/v1/messages", "/v1beta/models/gem:streamGenerateContent"
BEGIN = b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}\n\n'
TEXT = json.dumps({"text": 'say "message_stop", "finishReason", "input_tokens": 5'}).encode() + b"\n\n"
END = b'data: {"type":"message_stop"}\n\n'


def sent(path: str, *parts: bytes, is_readable: bool = True) -> Exchange:
    exchange = Exchange("POST", path, is_watched=True)
    for part in parts:
        exchange.sent(part, is_readable=is_readable)
    return exchange


@pytest.mark.parametrize(
    ("path", "parts", "lacks_end", "lacks_usage"),
    [
        (MESSAGES, (BEGIN, TEXT, END), False, False),
        (MESSAGES, (BEGIN, TEXT), True, False),
        (MESSAGES, (BEGIN.replace(b"7", b"0"), TEXT, END), False, True),
        (MESSAGES, (), True, True),
        (MESSAGES, (BEGIN, TEXT * 20_000, END), False, False),
        (GEMINI, (TEXT, b'data: {"finishReason": "STOP"}', b'{"promptTokenCount": 9}'), False, False),
        (GEMINI, (b'{"promptTokenCount": 9}', TEXT), True, False),
        (GEMINI, (TEXT, b'{"promptTokenCount": 0}'), True, True),
    ],
)
def test_what_a_stream_lacks(path: str, parts: tuple[bytes, ...], lacks_end: bool, lacks_usage: bool) -> None:
    marks = marks_of(path)
    assert marks is not None
    exchange = sent(path, *parts)
    assert exchange.lacks(marks.end) is lacks_end
    assert exchange.lacks(marks.usage) is lacks_usage


def test_nothing_is_said_of_a_stream_that_cannot_be_read() -> None:
    marks = marks_of("/anthropic/v1/messages")
    assert marks is not None
    assert not sent(MESSAGES, b"compressed", is_readable=False).lacks(marks.end)
    assert not Exchange("POST", MESSAGES).lacks(marks.end)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/models/g:generateContent"])
def test_other_streams_say_what_was_used_at_their_end(path: str) -> None:
    assert marks_of(path) is None


@pytest.mark.parametrize(
    ("path", "arguments", "is_streamed"),
    [(GEMINI, {}, True), (MESSAGES, {"stream": True}, True), (MESSAGES, {}, False)],
)
def test_gemini_says_in_the_path_that_it_streams(
    path: str, arguments: dict[str, Any], is_streamed: bool
) -> None:
    exchange = Exchange("POST", path)
    call = exchange.open(
        Caller(Subject(key="k"), "k"),
        Deployment("g", "g", "gemini"),
        "pass_through_endpoint",
        arguments,
        None,
    )
    assert isinstance(call, Call)
    assert call.is_streamed is is_streamed


def test_an_answer_of_geminis_says_what_was_used() -> None:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 15}
    for answer in ({"usageMetadata": usage}, GoogleAnswer(usageMetadata=usage)):
        counts = usage_in_gemini(answer)
        assert counts is not None
        assert (counts.input_tokens, counts.output_tokens, counts.reasoning_tokens) == (9, 6, 2)
    assert usage_in_gemini({"usageMetadata": {"promptTokenCount": -9}}) is None
    assert usage_in_gemini({"usage": {"prompt_tokens": 9}}) is None


def test_a_stream_that_is_sent_when_it_is_read_is_noted_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def begin(self: Any, completion_stream: object, make_call: Any = None) -> None:
        self.make_call = make_call

    def wait() -> Any:
        said.append("waits")
        return lambda: said.append("sent")

    monkeypatch.setattr(CustomStreamWrapper, "__init__", begin)
    observe_streams(lambda stream: said.append("begun"), wait)
    stream: Any = CustomStreamWrapper
    late = stream(None, make_call=lambda client: client)
    assert said == ["waits", "begun"]
    assert late.make_call(client="client") == "client"
    assert said == ["waits", "begun", "sent"]
    stream(iter(()), make_call=lambda client: client)
    stream(None)
    assert said[3:] == ["begun", "begun"]
