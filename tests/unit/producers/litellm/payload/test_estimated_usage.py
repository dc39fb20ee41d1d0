"""What a call used where nobody said so: what went in counts once, under however many names it stands."""

import pytest

from spendmeter_gateway.litellm.payload.estimated_usage import BYTES_PER_TOKEN, estimated_usage, stream_texts

TEXT = "word " * 400
MESSAGES = [{"role": "user", "content": TEXT}]
CONTENTS = [{"role": "user", "parts": [{"text": TEXT}]}]
FRAME = 10
"""Tokens that the names around a text may add."""


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": MESSAGES},
        {"messages": MESSAGES, "input": MESSAGES},
        {"messages": MESSAGES, "input": TEXT, "prompt": TEXT},
        {"messages": [{"role": "user", "content": "redacted-by-litellm"}], "input": TEXT},
        {"prompt": TEXT, "input": TEXT},
        {"input": TEXT, "messages": [], "prompt": ""},
        {"contents": CONTENTS},
        {"contents": CONTENTS, "messages": MESSAGES},
    ],
)
def test_what_was_sent_counts_once(request_: dict[str, object]) -> None:
    found = estimated_usage(request_).input_tokens

    assert len(TEXT) / BYTES_PER_TOKEN <= found <= len(TEXT) / BYTES_PER_TOKEN + FRAME


@pytest.mark.parametrize("name", ["system", "systemInstruction", "instructions", "tools"])
def test_what_stands_beside_it_counts_too(name: str) -> None:
    beside = estimated_usage({"contents": CONTENTS, name: CONTENTS}).input_tokens

    assert 2 * len(TEXT) / BYTES_PER_TOKEN <= beside <= 2 * (len(TEXT) / BYTES_PER_TOKEN + FRAME)


def test_pictures_decide_which_copy_is_the_longer() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    pictures = [{"role": "user", "content": [picture, picture]}]

    assert estimated_usage({"messages": pictures, "input": "two pictures"}).input_tokens >= 1600


RESPONSES = [
    {"type": "response.created", "response": {"output": []}},
    {"type": "response.output_text.delta", "delta": "one "},
    {"type": "response.output_text.delta", "delta": "two"},
    {"type": "response.output_text.done", "text": "one two"},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {"type": "response.function_call_arguments.done", "arguments": "{}"},
    {"type": "response.completed", "response": {"output": [{"content": [{"text": "one two"}]}]}},
]


@pytest.mark.parametrize("read", range(2, len(RESPONSES) + 1))
def test_what_a_stream_repeats_when_a_part_is_done_counts_once(read: int) -> None:
    assert "".join(stream_texts(RESPONSES[:read])) in ("one ", "one two", "one two{}")


def test_a_stream_that_says_all_of_it_at_its_end_counts_too() -> None:
    assert stream_texts([RESPONSES[0], RESPONSES[-1]]) == ["one two"]


def test_the_chunks_of_other_apis_repeat_nothing() -> None:
    chat = {"choices": [{"delta": {"content": "one"}}]}
    claude = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "two"}}
    gemini = {"candidates": [{"content": {"parts": [{"text": "three"}]}}]}

    assert stream_texts([chat, claude, gemini]) == ["one", "two", "three"]
