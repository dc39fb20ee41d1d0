"""Reading a request cannot raise, whatever JSON it is made of, and gives the same names at both ends."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spendmeter_gateway.litellm.fields import (
    EVENT_ID_FIELD,
    MAX_TAGS,
    MAX_TEXT_CHARS,
    key_hash,
    put_event_id,
    session_of,
    tags,
    text,
    text_or_none,
)
from spendmeter_gateway.litellm.payload.logged_call import read_log_event, request_id_of
from spendmeter_gateway.litellm.request.caller import caller_of, missing, own_tags, request_fields, who_asks
from spendmeter_gateway.litellm.request.controls import FALLBACKS, apply_controls, strip_final
from spendmeter_gateway.litellm.request.size import measure
from spendmeter_gateway.model import ClientValues

ID = "0195d6b0-0000-7000-8000-000000000001"
NAMES = (
    "model", "user", "metadata", "litellm_metadata", "litellm_session_id", "proxy_server_request", "tags",
    "session_id", "user_id", "body", "headers", "max_tokens", "n", "messages", "prompt", "input", "tools",
    "extra_body", "thinking", "reasoning", "generationConfig", EVENT_ID_FIELD, "user_api_key_hash",
)  # fmt: skip


def nested(depth: int, leaf: Any = "x", *, as_dict: bool = False) -> Any:
    for _ in range(depth):
        leaf = {"metadata": leaf} if as_dict else [leaf]
    return leaf


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([1, -1]).map(lambda sign: sign * 10**5000),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.sampled_from(["\ud800", "\0", "x" * 10_000, "User-Agent: me", "", ID]),
)
deep = st.builds(nested, st.sampled_from([940, 5_000]), as_dict=st.booleans())
anything = st.recursive(
    st.one_of(scalars, deep),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=6),
    ),
    max_leaves=20,
)
controls = st.dictionaries(st.sampled_from([*FALLBACKS, "extra_body", "user_config"]), anything)
bodies = st.dictionaries(st.sampled_from(NAMES), anything, max_size=8)
rules = st.sampled_from(["accept", "ignore", "require"])
policies = st.builds(ClientValues, rules, rules, rules)
FUZZ = settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)


@FUZZ
@given(bodies, bodies, policies)
def test_reading_who_a_request_is_for_never_raises(
    data: dict[str, Any], auth: dict[str, Any], values: ClientValues
) -> None:
    told = request_fields(data, ("x-cost",), values)
    caller = caller_of(who_asks(auth, "g"), told, values)

    assert told == request_fields(data, ("x-cost",), values) or told != told
    assert missing(caller, told, values) is not None
    subject = caller.subject
    for name in (subject.end_user, subject.session, subject.model_group, *subject.tags):
        assert name is None or (0 < len(name) <= MAX_TEXT_CHARS and name.encode())
    assert len(subject.tags) <= MAX_TAGS
    hash(subject)
    json.dumps(subject)


@FUZZ
@given(bodies)
def test_reading_what_it_asks_for_never_raises(data: dict[str, Any]) -> None:
    for call_type in ("acompletion", "anthropic_messages", "aresponses", "aembedding", "agenerate_content"):
        measure(data, call_type)


@FUZZ
@given(bodies)
def test_the_id_is_put_wherever_there_is_room_and_found_again(data: dict[str, Any]) -> None:
    put_event_id(data, ID)

    assert request_id_of(data) == UUID(ID)


@FUZZ
@given(
    bodies,
    st.dictionaries(st.sampled_from([*FALLBACKS, "extra_body", "user_config"]), anything),
    st.booleans(),
)
def test_controls_never_raise_and_are_gone_after_once(
    data: dict[str, Any], more: dict[str, Any], is_under_budget: bool
) -> None:
    data |= more

    apply_controls(data, is_under_budget=is_under_budget)

    assert apply_controls(data, is_under_budget=False).stripped == ()
    strip_final(data)


@FUZZ
@given(anything)
def test_a_value_has_one_normal_form(value: Any) -> None:
    name = text_or_none(value)

    assert text(value) == (name or "")
    assert text_or_none(name) == name
    assert key_hash(value) == key_hash(key_hash(value))
    assert tags([value]) == tags(tags([value]))
    assert session_of({"litellm_session_id": value}) == name
    logged = {"request_tags": value}
    kwargs = {"litellm_params": {"metadata": {"tags": value}}, "standard_logging_object": logged}
    assert read_log_event(kwargs).caller.subject.tags == tags(value)


@pytest.mark.parametrize(
    "user", [nested(940), nested(940, as_dict=True), ["a"], {"a": 1}, 10**5000], ids=range(5)
)
def test_a_user_that_is_no_name_is_none(user: Any) -> None:
    told = request_fields({"proxy_server_request": {"body": {"user": user}}}, ())

    assert caller_of(who_asks({"api_key": "k"}, "g"), told).subject.end_user is None


@given(st.lists(st.text(max_size=5), max_size=50), st.lists(st.text(min_size=1, max_size=5), max_size=10))
def test_own_tags_come_first_whatever_the_client_sends(of_client: list[str], own: list[str]) -> None:
    auth = {"metadata": {"tags": own[:5]}, "team_metadata": {"tags": own[5:]}}
    told = request_fields({"metadata": {"tags": of_client}, "litellm_metadata": {"tags": of_client}}, ())

    found = caller_of(who_asks(auth, "g"), told).subject.tags

    assert found[: len(own_tags(auth))] == tags(own)
    assert set(tags(of_client)[: MAX_TAGS - len(own)]) <= set(found)
