"""What a request asks for: sizes, maxima, and what cannot be told."""

from copy import deepcopy
from typing import Any

import pytest

from spendmeter_gateway.litellm.request.size import MAX_PARTS, limited, measure
from spendmeter_gateway.model import RequestSize


def asked(call_type: str = "acompletion", **data: Any) -> RequestSize:
    found = measure(data, call_type)
    assert found is not None
    return found


def of_user(content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(("text", "size"), [("", 0), ("abc", 3), ("ä€𝄞", 9), ("\ud800", 3)])
def test_a_text_has_as_many_tokens_as_bytes_at_the_most(text: str, size: int) -> None:
    assert asked(prompt=text).text_bytes == size


@pytest.mark.parametrize(
    "given",
    [
        {"messages": of_user("x" * 1000)},
        {"messages": of_user([{"type": "text", "text": "x" * 1000}])},
        {"system": "x" * 1000},
        {"instructions": "x" * 1000},
        {"input": of_user([{"type": "input_text", "text": "x" * 1000}])},
        {"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 1000}}]},
        {"tools": [{"name": "f", "input_schema": {"type": "image", "image_url": "x" * 1000}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x" * 1000}}},
    ],
)
def test_every_text_counts_wherever_it_stands(given: dict[str, Any]) -> None:
    assert asked(**given).text_bytes >= 1000


def test_names_of_fields_count_as_well() -> None:
    named = asked(tools=[{"parameters": {"x" * 1000: 1}}])

    assert named.frame_tokens >= 1000


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}},
        {"type": "image", "source": {"type": "base64", "data": "A" * 10_000}},
        {"type": "input_image", "image_url": "A" * 10_000},
    ],
)
def test_a_picture_is_a_picture_and_not_its_bytes(part: dict[str, object]) -> None:
    picture = asked(messages=of_user([part]))

    assert picture.images == 1
    assert picture.text_bytes < 100


@pytest.mark.parametrize(
    "given",
    [
        {"messages": of_user([{"type": "input_audio", "input_audio": {"data": "AAAA"}}])},
        {"messages": of_user([{"type": "document", "source": {}}])},
        {"messages": of_user([{"type": "file", "file": {"file_id": "f"}}])},
        {"previous_response_id": "resp_1"},
        {"input": [1] * (MAX_PARTS + 1)},
    ],
)
def test_what_cannot_be_told_from_here_is_open(given: dict[str, Any]) -> None:
    assert asked("aresponses", **given).is_open
    assert not asked("aresponses", input="text").is_open


@pytest.mark.parametrize(
    ("given", "is_paid"),
    [
        ({"tools": [{"type": "function"}, {"name": "anthropics"}, {"type": "custom"}]}, False),
        ({"tools": [{"type": "web_search_20250305"}]}, True),
        ({"tools": [{"type": "code_interpreter"}]}, True),
        ({"web_search_options": {}}, True),
    ],
)
def test_tools_that_the_provider_bills_per_use_are_told_apart(given: dict[str, Any], is_paid: bool) -> None:
    assert asked(**given).has_paid_tools == is_paid


@pytest.mark.parametrize(
    ("given", "maximum"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_output_tokens": 0}, 0),
        ({"max_tokens": -1}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": "5"}, None),
    ],
)
def test_the_largest_maximum_that_a_client_names_counts(given: dict[str, Any], maximum: int | None) -> None:
    assert asked(**given).max_output_tokens == maximum


@pytest.mark.parametrize(
    ("given", "answers"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 4}, 4),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [1, 2]}, 1),
    ],
)
def test_each_answer_is_paid_for(given: dict[str, Any], answers: int) -> None:
    assert asked("atext_completion", **given).answers == answers


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({}, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, 2001),
        ({"reasoning_effort": "low"}, 4097),
        ({"reasoning_effort": "none"}, 0),
    ],
)
def test_an_answer_is_longer_than_the_thinking_before_it(given: dict[str, Any], least: int) -> None:
    assert asked(**given).least_output_tokens == least


def test_a_cache_that_is_kept_for_an_hour_is_noticed() -> None:
    part: dict[str, object] = {
        "type": "text",
        "text": "x",
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }

    assert asked(messages=of_user([part])).caches_for_an_hour


@pytest.mark.parametrize("call_type", ["atranscription", "avideo_generation", "pass_through_endpoint"])
def test_calls_that_are_not_billed_by_tokens_have_no_size(call_type: str) -> None:
    assert measure({"prompt": "a picture"}, call_type) is None


def test_embeddings_have_no_output() -> None:
    assert not asked("aembedding", input="x").has_output


@pytest.mark.parametrize(
    ("call_type", "given", "expected"),
    [
        ("acompletion", {}, {"max_tokens": 100}),
        ("aresponses", {}, {"max_output_tokens": 100}),
        ("acompletion", {"max_tokens": 50}, {"max_tokens": 50}),
        ("acompletion", {"max_tokens": 500}, {"max_tokens": 100}),
        ("acompletion", {"max_completion_tokens": 500}, {"max_completion_tokens": 100}),
    ],
)
def test_a_maximum_is_put_in_or_lowered(
    call_type: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    data = dict(given)
    limited(data, call_type, 100)

    assert data == expected


@pytest.mark.parametrize(
    ("call_type", "given", "maximum"),
    [
        ("acompletion", {"max_tokens": 10, "extra_body": {"max_tokens": 16_000}}, 16_000),
        ("acompletion", {"max_tokens": 10, "extra_body": {"max_completion_tokens": 16_000}}, 16_000),
        ("acompletion", {"max_tokens": 10, "extra_body": {"max_tokens": None}}, None),
        ("acompletion", {"max_tokens": 10, "extra_body": {"max_tokens": "16000"}}, None),
        (
            "acompletion",
            {"max_tokens": 10, "extra_body": {"generationConfig": {"maxOutputTokens": 9e3}}},
            9_001,
        ),
        ("acompletion", {"max_tokens": 10, "additional_drop_params": ["max_tokens"]}, None),
        ("acompletion", {"max_tokens": 10, "optional_params": {"num_predict": 99}}, 99),
        ("agenerate_content", {"config": {"max_output_tokens": 7}}, 7),
        ("agenerate_content", {"generationConfig": {"maxOutputTokens": 7}}, 7),
    ],
)
def test_the_maximum_is_what_the_provider_may_read(
    call_type: str, given: dict[str, Any], maximum: int | None
) -> None:
    assert asked(call_type, **given).max_output_tokens == maximum

    data = deepcopy(given)
    limited(data, call_type, 5)

    assert asked(call_type, **data).max_output_tokens == 5


def test_a_limit_in_a_nested_place_leaves_the_callers_own_alone() -> None:
    extra = {"max_tokens": 16_000}
    data = {"extra_body": extra}
    limited(data, "acompletion", 5)

    assert data == {"extra_body": {"max_tokens": 5}}
    assert extra == {"max_tokens": 16_000}


@pytest.mark.parametrize(
    ("where", "answers"),
    [
        ({"n": 3}, 3),
        ({"extra_body": {"n": 7}, "n": 2}, 7),
        ({"extra_body": {"best_of": 4}}, 4),
        ({"generationConfig": {"candidateCount": 5}}, 5),
        ({"prompt": "a", "extra_body": {"prompt": ["a", "b"]}}, 2),
    ],
)
def test_the_number_of_answers_is_the_highest_named(where: dict[str, Any], answers: int) -> None:
    assert asked(**where).answers == answers


@pytest.mark.parametrize(
    "given",
    [
        {"web_search_options": {}},
        {"extra_body": {"web_search_options": {}}},
        {"extra_body": {"plugins": [{"id": "web"}]}},
        {"extra_body": {"models": ["openai/gpt-5-pro"]}},
        {"search_parameters": {"mode": "on"}},
        {"tools": [{"googleSearch": {}}]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "code_interpreter"}]},
        {"extra_body": {"tools": [{"type": "mcp"}]}},
        {"tools": {"type": "function"}},
    ],
)
def test_what_is_billed_per_use_has_no_bound(given: dict[str, Any]) -> None:
    assert asked(**given).has_paid_tools


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"type": "custom", "name": "f"},
        {"name": "f", "description": "d", "input_schema": {}, "cache_control": {}},
        {"functionDeclarations": [{"name": "f"}]},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
        {"type": "apply_patch"},
    ],
)
def test_tools_that_the_client_runs_are_free(tool: dict[str, Any]) -> None:
    assert not asked(tools=[tool]).has_paid_tools


def test_media_are_counted_where_the_request_says_how_many() -> None:
    pictures = asked("aimage_generation", prompt="a", n=3, size="1024x1792")
    assert (pictures.made_images, pictures.made_pixels) == (3, 1024 * 1792)
    assert asked("aimage_generation", prompt="a", size="auto").made_pixels is None
    assert asked("arerank", query="q", documents=["a"] * 250).searches == 3
    assert asked("arerank", query="q", documents=["a" * 100_000]).searches == 5
    assert asked("aspeech", input="abc").is_speech
