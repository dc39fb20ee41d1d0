"""What the fake model answers is decided by the request alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter_local.upstream.plan import (
    AnswerPlan,
    BadDirectiveError,
    plan_chat,
    plan_completion,
    plan_embedding,
)


def ask(content: Any, **more: Any) -> AnswerPlan:
    return plan_chat({"messages": [{"role": "user", "content": content}], **more})


def test_a_directive_sets_every_count() -> None:
    plan = ask("hello [[in=120 out=40 cached=20 cache_write=5 reasoning=8 delay_ms=50 status=500 chunks=5]]")
    assert (plan.input_tokens, plan.output_tokens) == (120, 40)
    assert (plan.cached_tokens, plan.cache_write_tokens, plan.reasoning_tokens) == (20, 5, 8)
    assert (plan.delay_ms, plan.status, plan.chunks) == (50, 500, 5)
    assert len(plan.text.split()) == 40 - 8


def test_without_one_words_are_counted() -> None:
    plan = plan_chat(
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "what is a budget"}]},
            ]
        }
    )
    assert plan.input_tokens == 6
    assert plan.output_tokens == len(plan.reply) > 0


def test_the_same_request_has_the_same_answer() -> None:
    assert ask("what is a budget") == ask("what is a budget")


def test_only_the_last_user_message_directs() -> None:
    messages = [
        {"role": "user", "content": "[[in=1 out=1]]"},
        {"role": "assistant", "content": "[[in=2 out=2]]"},
        {"role": "user", "content": "[[in=3 out=3]]"},
        {"role": "assistant", "content": "[[in=4 out=4]]"},
    ]
    assert plan_chat({"messages": messages}).input_tokens == 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
@pytest.mark.parametrize(("maximum", "output", "cut"), [(39, 39, True), (40, 40, False), (41, 40, False)])
def test_the_requests_maximum_bounds_the_output(name: str, maximum: int, output: int, cut: bool) -> None:
    plan = ask("[[in=1 out=40]]", **{name: maximum})
    assert (plan.output_tokens, len(plan.reply), plan.cut_short) == (output, output, cut)


@pytest.mark.parametrize(
    "directive",
    [
        "in=-1",
        "in=1.5",
        "out",
        "tokens=5",
        "in=200001",
        "status=199",
        "cached=1",
        "in=5 cached=3 cache_write=3",
    ],
)
def test_a_directive_that_cannot_be_meant_is_refused(directive: str) -> None:
    with pytest.raises(BadDirectiveError):
        ask(f"[[{directive}]]")


def test_an_embedding_has_no_output() -> None:
    plan = plan_embedding({"input": ["one two", "three [[in=7 out=9]]"]})
    assert (plan.input_tokens, plan.output_tokens) == (7, 0)


def test_a_prompt_directs_a_completion() -> None:
    assert plan_completion({"prompt": "x [[in=7 out=2]]"}).output_tokens == 2


@given(st.integers(0, 60), st.integers(0, 70))
def test_the_pieces_of_a_stream_are_its_text(output: int, chunks: int) -> None:
    plan = ask(f"[[in=1 out={output} chunks={chunks}]]")
    pieces = list(plan.pieces())
    assert "".join(pieces) == plan.text
    assert len(pieces) == max(1, min(chunks, output))
