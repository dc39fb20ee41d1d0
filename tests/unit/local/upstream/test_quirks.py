"""Answers that go wrong on purpose, and when a fake model calls a tool."""

from typing import Any

import pytest

from spendmeter_local.upstream.plan import BadDirectiveError, plan_chat, tool_call_of
from spendmeter_local.upstream.quirks import UsageForm, disturbed, gives_usage

USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
ANSWER = {"id": "1", "usage": USAGE}


@pytest.mark.parametrize(
    ("form", "usage", "gives"),
    [
        ("plain", USAGE, True),
        ("missing", None, False),
        (
            "zero",
            {"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}},
            False,
        ),
        (
            "strings",
            {
                "prompt_tokens": "10",
                "completion_tokens": "4",
                "prompt_tokens_details": {"cached_tokens": "2"},
            },
            False,
        ),
        (
            "negative",
            {"prompt_tokens": -10, "completion_tokens": -4, "prompt_tokens_details": {"cached_tokens": -2}},
            False,
        ),
        ("costless", {**USAGE, "cost": 0}, True),
    ],
)
def test_each_form_of_usage(form: UsageForm, usage: Any, gives: bool) -> None:
    changed = disturbed(ANSWER, form)
    assert changed.get("usage") == usage
    assert gives_usage(changed, 4) is gives


def test_usage_is_given_once_the_output_is_said() -> None:
    assert not gives_usage({"message": {"usage": {"input_tokens": 10, "output_tokens": 0}}}, 4)
    assert gives_usage({"usage": {"output_tokens": 4}}, 4)
    assert gives_usage({"usageMetadata": {"candidatesTokenCount": 4}}, 4)
    assert gives_usage({"usage": {"prompt_tokens": 10, "total_tokens": 10}}, 0)


@pytest.mark.parametrize(
    ("form", "gives"),
    [
        ("plain", True),
        ("missing", False),
        ("zero", False),
        ("strings", False),
        ("negative", False),
        ("costless", True),
    ],
)
def test_where_nothing_comes_out_usage_is_given_once_the_input_is_said(form: UsageForm, gives: bool) -> None:
    embedded = {"data": [], "usage": {"prompt_tokens": 10, "total_tokens": 10}}
    assert gives_usage(disturbed(embedded, form), 0) is gives


def test_a_directive_has_numbers_and_words() -> None:
    plan = plan_chat(
        {"messages": [{"role": "user", "content": "hi [[nonce=7 usage=zero fault=cut tool=2]]"}]}
    )
    assert (plan.nonce, plan.usage, plan.fault, plan.tool_rounds, plan.input_word_count) == (
        7,
        "zero",
        "cut",
        2,
        1,
    )
    with pytest.raises(BadDirectiveError, match="fault=none"):
        plan_chat({"messages": [{"role": "user", "content": "[[fault=other]]"}]})


def test_a_tool_is_called_as_often_as_the_directive_says_where_there_is_one() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    user, answered = {"role": "user", "content": "x"}, {"role": "tool", "content": "42"}
    assert tool_call_of({"messages": [user], "tools": tools}, 1) == "add"
    assert tool_call_of({"messages": [user, answered], "tools": tools}, 1) is None
    assert tool_call_of({"messages": [user, answered], "tools": tools}, 2) == "add"
    assert tool_call_of({"messages": [user]}, 1) is None
    assert tool_call_of({"messages": [user], "tools": tools}, 0) is None
