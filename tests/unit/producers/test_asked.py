"""What a request asks for: sizes, maxima, and what cannot be told."""

from typing import Any

import pytest

from producers.asked import MAX_PARTS, Asked, asked_by, limited


def asked(call_type: str = "acompletion", **data: Any) -> Asked:
    found = asked_by(data, call_type)
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


@pytest.mark.parametrize(
    "call_type", ["aimage_generation", "atranscription", "aspeech", "pass_through_endpoint"]
)
def test_calls_that_are_not_billed_by_tokens_have_no_size(call_type: str) -> None:
    assert asked_by({"prompt": "a picture"}, call_type) is None


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
