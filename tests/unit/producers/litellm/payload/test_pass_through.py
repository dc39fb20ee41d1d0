"""Pass-through calls, on what LiteLLM 1.106.2 logs of each route (payloads/pass_through/)."""

import json
from pathlib import Path
from typing import Any

import pytest

from spendmeter.contract.usage import CostSource, Doubt, UsageEvent
from spendmeter_gateway.litellm.models import listed_prices
from spendmeter_gateway.litellm.payload.free_calls import is_free_beforehand, is_free_call, is_free_path
from spendmeter_gateway.litellm.payload.logged_call import read_log_event
from spendmeter_gateway.litellm.payload.pass_through import UsageChunkFilter, ask_for_usage
from spendmeter_gateway.litellm.payload.usage import usage_of
from spendmeter_gateway.model import Origin
from tests.unit.producers.litellm.payload.test_usage import NOW, REQUEST_ID

LOGGED = Path(__file__).parent / "payloads" / "pass_through"
GPT_4O_NANOUSD = 1_000 * 2_500 + 100 * 10_000


def payload(name: str) -> dict[str, Any]:
    kwargs: dict[str, Any] = json.loads((LOGGED / f"{name}.json").read_text())
    return kwargs


def event(name: str) -> UsageEvent | None:
    draft = usage_of(
        read_log_event(payload(name)), event_id=REQUEST_ID, occurred_at=NOW, listed=listed_prices
    )
    return None if draft is None else draft.finish(Origin("p", "g"), 1)


def recorded(name: str) -> UsageEvent:
    found = event(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "cost_nanousd"),
    [
        ("openai_chat", GPT_4O_NANOUSD),
        ("openai_chat_stream_usage", GPT_4O_NANOUSD),
        ("openai_responses", GPT_4O_NANOUSD),
        ("openai_responses_stream", GPT_4O_NANOUSD),
        ("openai_embeddings", 20_000),
        ("anthropic_messages", 4_515_000),
        ("anthropic_messages_stream", 4_515_000),
        ("gemini_generate", 550_000),
        ("gemini_stream", 550_000),
        ("cohere_chat", 3_500_000),
    ],
)
def test_what_litellm_reads_is_believed(name: str, cost_nanousd: int) -> None:
    found = recorded(name)

    assert (found.cost_nanousd, found.cost_source) == (cost_nanousd, CostSource.LITELLM)
    assert (found.estimated, found.cost_doubt) == (False, Doubt.NONE)


@pytest.mark.parametrize(
    ("name", "provider", "cost_nanousd"),
    [
        ("azure_chat", "azure", GPT_4O_NANOUSD),
        ("mistral_chat", "mistral", None),
        ("openai_completions", "openai", None),
    ],
)
def test_usage_that_litellm_does_not_read_is_read_from_the_answer(
    name: str, provider: str, cost_nanousd: int | None
) -> None:
    found = recorded(name)

    assert (found.input_tokens, found.output_tokens, found.estimated) == (1_000, 100, False)
    assert found.provider == provider
    if cost_nanousd is not None:
        assert (found.cost_nanousd, found.cost_source) == (cost_nanousd, CostSource.TOKENS)


def test_usage_in_chunks_that_litellm_does_not_read_is_read_from_them() -> None:
    kwargs = payload("azure_chat_stream")
    logged = kwargs["standard_logging_object"]["response"]
    logged["response"] += (
        """, 'data: {"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}'"""
    )
    draft = usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW, listed=listed_prices)

    assert draft is not None
    found = draft.finish(Origin("p", "g"), 1)
    assert (found.cost_nanousd, found.estimated) == (GPT_4O_NANOUSD, False)


def test_a_usage_that_an_answer_quotes_is_none() -> None:
    kwargs = payload("azure_chat_stream")
    quoted = json.dumps('{"usage": {"prompt_tokens": 1, "completion_tokens": 0}}')
    logged = kwargs["standard_logging_object"]["response"]
    logged["response"] = repr([f'data: {{"choices": [{{"delta": {{"content": {quoted}}}}}]}}'])
    draft = usage_of(read_log_event(kwargs), event_id=REQUEST_ID, occurred_at=NOW, listed=listed_prices)

    assert draft is not None
    assert draft.fields["estimated"]
    assert draft.fields["input_tokens"] > 10


@pytest.mark.parametrize(
    "name",
    [
        "openai_chat_stream",
        "gemini_stream_no_usage",
        "azure_chat_stream",
        "mistral_chat_stream",
        "openai_completions_stream",
    ],
)
def test_a_stream_without_usage_is_estimated_with_its_input(name: str) -> None:
    found = recorded(name)

    assert found.estimated
    assert found.input_tokens > 0
    assert found.output_tokens > 0
    assert found.cost_doubt is Doubt.NONE


def test_an_estimate_costs_its_input_too() -> None:
    """LiteLLM bills the two tokens that came out, $0.00002, and none of those that went in."""
    found = recorded("openai_chat_stream")

    assert found.cost_nanousd == found.input_tokens * 2_500 + found.output_tokens * 10_000
    assert found.cost_source is CostSource.TOKENS


@pytest.mark.parametrize("name", ["openai_get_models", "openai_moderations", "gemini_count_tokens"])
def test_what_calls_no_model_is_no_usage(name: str) -> None:
    assert event(name) is None


@pytest.mark.parametrize(
    ("method", "url", "is_free"),
    [
        ("GET", "https://api.openai.com/v1/responses/resp_1", True),
        ("DELETE", "https://api.openai.com/v1/files/file-1", True),
        ("POST", "https://api.openai.com/v1/files", True),
        ("POST", "https://api.openai.com/v1/batches", True),
        ("POST", "https://api.openai.com/v1/moderations", True),
        ("POST", "https://api.anthropic.com/v1/messages/count_tokens", True),
        ("POST", "https://x/v1beta/models/gemini-2.5-pro:countTokens", True),
        ("POST", "https://api.openai.com/v1/threads", True),
        ("POST", "https://api.openai.com/v1/threads/t/runs", False),
        ("POST", "https://api.openai.com/v1/chat/completions", False),
        ("POST", "https://api.anthropic.com/v1/messages", False),
        ("POST", "https://x/v1beta/models/gemini-2.5-pro:generateContent", False),
        ("POST", "https://x/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", False),
        ("POST", "https://api.openai.com/v1/images/generations", False),
        ("POST", "https://x/v1/vector_stores/v/search", False),
        ("POST", "https://[broken", False),
        ("POST", "", False),
    ],
)
def test_which_paths_call_no_model(method: str, url: str, is_free: bool) -> None:
    assert is_free_path(method, url) is is_free
    assert is_free_call("pass_through_endpoint", method=method, url=url) is is_free


@pytest.mark.parametrize(
    "call_type", ["moderation", "amoderation", "call_mcp_tool", "acreate_batch", "afile_list"]
)
def test_which_calls_are_free_by_their_nature(call_type: str) -> None:
    assert is_free_call(call_type)


@pytest.mark.parametrize(
    "call_type", ["acompletion", "aembedding", "aimage_generation", "arerank", "acreate_video"]
)
def test_a_model_call_is_not_free(call_type: str) -> None:
    assert not is_free_call(call_type)


def test_an_mcp_tool_may_have_a_price_so_nobody_knows_beforehand() -> None:
    assert is_free_call("call_mcp_tool")
    assert not is_free_beforehand("call_mcp_tool")
    assert is_free_beforehand("amoderation")


class TestAskingForUsage:
    """OpenAI's streams tell their usage to who asks."""

    def test_a_stream_is_asked_and_its_other_options_stay(self) -> None:
        body: dict[str, Any] = {"stream": True, "stream_options": {"include_obfuscation": False}}

        assert ask_for_usage("/openai_passthrough/v1/chat/completions", body)
        assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}

    @pytest.mark.parametrize(
        ("route", "body"),
        [
            ("/openai/v1/chat/completions", {}),
            ("/openai/v1/chat/completions", {"stream": False}),
            ("/openai/v1/chat/completions", {"stream": True, "stream_options": {"include_usage": True}}),
            ("/openai/v1/chat/completions", {"stream": True, "stream_options": "x"}),
            ("/openai/v1/responses", {"stream": True}),
            ("/anthropic/v1/messages", {"stream": True}),
            ("/mistral/v1/chat/completions", {"stream": True}),
        ],
    )
    def test_what_would_not_be_understood_stays_as_it_was(self, route: str, body: dict[str, Any]) -> None:
        before = json.dumps(body)

        assert not ask_for_usage(route, body)
        assert json.dumps(body) == before

    CHUNKS = (
        b'data: {"choices": [{"delta": {"content": "\\"usage\\" {}"}}]}\n\n',
        b": keep-alive\n\n",
        b'data: {"choices": [{"delta": {}}], "usage": null}\r\n\r\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n',
        b"data: [DONE]\n\n",
    )

    @pytest.mark.parametrize("size", [1, 2, 7, 50, 1_000])
    def test_the_chunk_that_was_not_asked_for_is_taken_out_wherever_the_stream_is_cut(
        self, size: int
    ) -> None:
        stream, sieve, passed = b"".join(self.CHUNKS), UsageChunkFilter(), b""
        for at in range(0, len(stream), size):
            passed += sieve.feed(stream[at : at + size])
        passed += sieve.feed(b"", is_last=True)

        assert passed == b"".join(c for c in self.CHUNKS if b"prompt_tokens" not in c)
        assert sieve.usage is not None
        assert (sieve.usage.input_tokens, sieve.usage.output_tokens) == (7, 3)

    def test_what_never_ends_is_not_held_for_ever(self) -> None:
        sieve, stream = UsageChunkFilter(), b"x" * (1024 * 1024 + 1)

        assert sieve.feed(stream) == stream
