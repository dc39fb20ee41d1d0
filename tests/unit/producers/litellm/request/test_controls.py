"""LiteLLM's own controls in a body: stripped, passed, or named, wherever a client hides them."""

import json
import re
import timeit
from copy import deepcopy
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import litellm.types.utils
import pytest
from litellm.litellm_core_utils.get_litellm_params import get_litellm_params
from litellm.types.router import GenericLiteLLMParams

from spendmeter_gateway.litellm.request.controls import (
    FALLBACKS,
    GROUPS,
    MAX_NODES,
    NOTHING,
    VALIDATED_LATE,
    Treatment,
    apply_controls,
    strip_final,
    unknown,
)

PAGE = Path(__file__).parents[5] / "docs/reference/controls.md"
LISTED = Path(__file__).parent / "litellm_names.txt"
BELOW_ROOT = sorted(
    name
    for group in GROUPS.values()
    if group.treatment in (Treatment.STRIPPED, Treatment.NESTED_STRIPPED)
    for name in group.names - {"max_retries"}
)
PASSED = sorted(
    name
    for group in GROUPS.values()
    if group.treatment is Treatment.PASSES
    for name in group.names - {*FALLBACKS, "extra_body"}
)


class OfLitellm:
    """An object that the proxy puts into a request."""


def request(**of_client: Any) -> dict[str, Any]:
    """A chat request as the pre-call hook has it."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], **of_client}
    of_proxy = {"user_api_key_hash": "mine", "user_api_key_auth": OfLitellm()}
    return body | {
        "litellm_call_id": "call",
        "litellm_logging_obj": OfLitellm(),
        "proxy_server_request": {"body": dict(body)},
        "metadata": of_proxy | (of_client.get("metadata") or {}),
    }


def applied(data: dict[str, Any]) -> tuple[str, ...]:
    return apply_controls(data, is_under_budget=True).stripped


@pytest.mark.parametrize("name", BELOW_ROOT)
def test_nothing_that_a_fallback_merges_changes_owner_price_or_logging(name: str) -> None:
    values: tuple[Any, ...] = (None, {}, "x", 0)
    for field, value in product(FALLBACKS, values):
        entry: dict[str, Any] = {"model": "other", name: value, "temperature": 1}
        for nested in ([entry], [{"group": [entry]}], [{"model": "m", field: [entry]}]):
            data = request(**{field: deepcopy(nested)})

            assert len(applied(data)) == 1

            found = data[field][0]
            left = found["group"][0] if "group" in found else found.get(field, [found])[0]
            assert left == {"model": "other", "temperature": 1}


@pytest.mark.parametrize("name", PASSED)
def test_what_is_metered_anyway_passes(name: str) -> None:
    data = request(**{name: ["x"], "fallbacks": [{"model": "other", name: ["x"]}]})

    assert apply_controls(data, is_under_budget=True) == NOTHING
    assert data[name] == ["x"]
    assert data["fallbacks"] == [{"model": "other", name: ["x"]}]


@pytest.mark.parametrize(
    "given",
    [
        {"metadata": {"user_id": "u", "trace": "t"}},
        {"store": True, "prompt_cache_key": "k", "service_tier": "flex", "safety_identifier": "s"},
        {"extra_body": {"top_k": 3, "provider": {"order": ["a"]}, "vendor": {"no-log": True}}},
        {"fallbacks": ["other", "third"]},
        {"fallbacks": [{"gpt-4o": ["other", "azure"]}, {"azure": ["client"]}]},
        {"fallbacks": [{"model": "other", "messages": [{"role": "user", "content": "x"}], "n": 2}]},
        {"num_retries": 3, "timeout": 5, "tags": ["a"], "vendor_parameter": {"model_info": 1}},
        {"tools": [{"type": "function", "function": {"name": "no-log", "parameters": {"metadata": {}}}}]},
        {"guardrails": ["a"], "cache": {"no-cache": True}},
        {"stream_options": {"include_usage": True}},
    ],
)
def test_what_clients_send_today_passes_unchanged(given: dict[str, Any]) -> None:
    data = request(**deepcopy(given))

    assert apply_controls(data, is_under_budget=True) == NOTHING
    for name, value in given.items():
        assert data[name] == value or (name == "metadata" and value.items() <= data[name].items())


def test_sixteen_pairs_of_the_clients_own_metadata_go_to_the_provider() -> None:
    pairs = dict.fromkeys(("model_info", "model_group", "user_id", "deployment", "tags"), "x")
    data = request() | {"metadata": dict(pairs), "litellm_metadata": {"user_api_key_auth": OfLitellm()}}

    assert applied(data) == ()
    assert data["metadata"] == pairs


@pytest.mark.parametrize("name", ["metadata", "litellm_metadata"])
def test_forged_owners_are_stripped_from_the_metadata_that_is_not_the_proxys(name: str) -> None:
    other = "litellm_metadata" if name == "metadata" else "metadata"
    forged = {"user_api_key_hash": "VICTIM", "user_api_key_auth": {}, "spendmeter_event_id": "1", "a": "b"}
    own = {"user_api_key_hash": "mine", "user_api_key_auth": OfLitellm()}
    data = request() | {name: dict(forged), other: dict(own)}

    apply_controls(data, is_under_budget=False)

    assert data[name] == {"a": "b"}
    assert data[other] == own


def test_the_metadata_of_a_fallback_is_dropped_where_it_would_replace_the_proxys() -> None:
    data = request(fallbacks=[{"model": "m", "metadata": {"user_api_key_hash": "VICTIM"}}])
    applied(data)
    assert data["fallbacks"] == [{"model": "m"}]

    entry = {"model": "m", "metadata": {"user_id": "u", "user_api_key_hash": "VICTIM"}}
    data = request(fallbacks=[entry]) | {"metadata": {}, "litellm_metadata": {"user_api_key_hash": "mine"}}
    applied(data)
    assert data["fallbacks"] == [{"model": "m", "metadata": {"user_id": "u"}}]


_SURE = {"proxy_server_request", "secret_fields"}


@pytest.mark.parametrize("name", sorted(GROUPS["of the proxy"].names - _SURE))
def test_at_the_root_the_proxys_own_stays_and_a_clients_goes(name: str) -> None:
    own = OfLitellm()
    data = request() | {name: own}
    data["proxy_server_request"]["body"][name] = ["forged"]
    assert applied(data) == ()
    assert data[name] is own

    sent = ["forged"]
    data = request() | {name: sent}
    data["proxy_server_request"]["body"][name] = sent
    assert applied(data) == (name,)


def test_the_proxys_secret_fields_stay_also_as_a_copy() -> None:
    own = {"raw_headers": {"x-mcp-auth": "secret"}}
    data = request() | {"secret_fields": own}
    assert applied(data) == ()
    assert data["secret_fields"] is own


@pytest.mark.parametrize("name", sorted(GROUPS["price"].names | GROUPS["logging"].names))
def test_prices_and_logging_go_from_the_root(name: str) -> None:
    assert applied(request(**{name: 0})) == (name,)


def test_a_price_field_that_is_not_known_yet_goes_as_well() -> None:
    data = request(input_cost_per_thought=0, fallbacks=[{"model": "m", "output_cost_per_thought": 0}])

    assert applied(data) == ("input_cost_per_thought", "fallbacks[0].output_cost_per_thought")


@pytest.mark.parametrize("where", ["root", "entry"])
def test_another_model_in_extra_body_is_no_clients_to_choose(where: str) -> None:
    extra = {"model": "gpt-4o", "top_k": 1, "stream_options": {"include_usage": False}}
    data = request(**({"extra_body": extra} if where == "root" else {"fallbacks": [{"extra_body": extra}]}))

    assert len(applied(data)) == 2
    assert extra == {"top_k": 1, "stream_options": {}}


def test_a_client_cannot_choose_retries_that_no_hook_sees() -> None:
    data = request(max_retries=5, num_retries=2, fallbacks=[{"model": "m", "max_retries": 9}])

    assert applied(data) == ("max_retries", "fallbacks[0].max_retries")
    assert (data["max_retries"], data["num_retries"]) == (0, 2)

    final: dict[str, Any] = {"model": "m", "extra_body": {"model": "x"}}
    assert strip_final(final) == ("extra_body.model", "max_retries")
    assert final == {"model": "m", "max_retries": 0, "extra_body": {}}
    # LiteLLM: `max_retries or 2`.
    assert (final["max_retries"] or 2) == 0
    assert json.dumps(final["max_retries"]) == "0"


@pytest.mark.parametrize("name", VALIDATED_LATE)
@pytest.mark.parametrize("value", [["x"], {"a": "b"}, 5, 0.5])
def test_what_litellm_could_not_read_once_the_provider_has_answered_is_stripped(
    name: str, value: object
) -> None:
    final: dict[str, Any] = {"model": "m", "max_retries": 0, name: value}

    assert strip_final(final) == (name,)
    assert name not in final


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("litellm_trace_id", "trace-1"),
        ("litellm_trace_id", None),
        ("drop_params", True),
        ("drop_params", "true"),
        ("merge_reasoning_content_in_choices", False),
        ("merge_reasoning_content_in_choices", "yes"),
    ],
)
def test_what_litellm_reads_passes(name: str, value: object) -> None:
    final: dict[str, Any] = {"model": "m", "max_retries": 0, name: value}

    assert strip_final(final) == ()
    assert final[name] == value


def test_every_control_that_litellm_validates_late_is_known() -> None:
    """What reaches the check at the beginning of a stream, and a client may set."""
    checked = GenericLiteLLMParams.model_fields.keys() & signature(get_litellm_params).parameters.keys()
    not_the_clients = GROUPS["credentials"].names | GROUPS["provider"].names | GROUPS["hidden retries"].names
    left = {
        name
        for name in checked - not_the_clients
        if not any(name in group.names for group in GROUPS.values() if group.treatment is Treatment.STRIPPED)
    }

    assert left == set(VALIDATED_LATE)


@pytest.mark.parametrize("name", ["user_config", "model_list"])
def test_a_clients_own_router_is_refused_under_a_budget_and_never_brings_prices(name: str) -> None:
    params = {"model": "openai/gpt-4o", "api_key": "own"}
    models = [{"model_name": "m", "litellm_params": params | {"input_cost_per_token": 0}}]
    given = {"model_list": models} if name == "user_config" else models

    outcome = apply_controls(request(**{name: deepcopy(given)}), is_under_budget=True)
    assert outcome.unmetered == (name,)

    data = request(**{name: deepcopy(given)})
    assert apply_controls(data, is_under_budget=False).unmetered == ()
    left = data[name]["model_list"] if name == "user_config" else data[name]
    assert left == [{"model_name": "m", "litellm_params": params}]


def test_a_provider_of_the_clients_goes_where_a_model_is_asked() -> None:
    assert applied(request(custom_llm_provider="hosted_vllm")) == ("custom_llm_provider",)
    assert applied({"custom_llm_provider": "azure", "file": "x", "purpose": "batch"}) == ()


def test_what_is_nested_too_deep_or_too_wide_is_dropped() -> None:
    entry: dict[str, Any] = {"model": "m", "base_model": "free"}
    for _ in range(2_000):
        entry = {"model": "m", "fallbacks": [entry]}
    data = request(fallbacks=[entry])
    assert applied(data)
    depth, node = 0, data["fallbacks"]
    while node and (node := node[0].get("fallbacks")):
        depth += 1
    assert depth < 40

    data = request(fallbacks=[[{"model": "m", "no-log": True}] * 10] * MAX_NODES)
    assert applied(data)
    assert "no-log" not in str(data["fallbacks"])


def names_of_litellm() -> dict[str, list[str]]:
    rows = [line.split() for line in LISTED.read_text("utf-8").splitlines()[1:]]
    return {name: versions.split(",") for name, versions in rows}


def test_each_parameter_of_each_supported_version_is_known() -> None:
    assert unknown(frozenset(names_of_litellm())) == frozenset()


def test_the_list_is_that_of_the_installed_version() -> None:
    listed = {name for name, versions in names_of_litellm().items() if "1.106.2" in versions}

    assert frozenset(litellm.types.utils.all_litellm_params) <= listed


def test_each_name_is_in_one_group() -> None:
    names = [name for group in GROUPS.values() for name in group.names]

    assert len(names) == len(set(names))


def test_the_page_says_what_the_code_does() -> None:
    page = PAGE.read_text("utf-8")
    rows = re.findall(r"(?m)^\| (?!---|controls )(.+?) \| (.+?) \| (.+?) \| (.+?) \|$", page)

    assert rows == [
        (title, group.changes, group.treatment.value, group.why) for title, group in GROUPS.items()
    ]
    for title, group in GROUPS.items():
        section = page.partition(f"### {title}\n")[2].partition("\n### ")[0]
        assert set(re.findall(r"`([^`]+)`", section)) == group.names


def test_a_body_without_controls_costs_next_to_nothing() -> None:
    data = request(temperature=1, stream=True, user="u", tools=[], max_tokens=5)
    data["metadata"] |= {f"user_api_key_{i}": i for i in range(50)}

    best = min(timeit.repeat(lambda: apply_controls(data, is_under_budget=True), number=2_000, repeat=5))

    # Measured: 2 to 5 µs. The bound is wide for a busy machine.
    assert best / 2_000 < 20e-6


@pytest.mark.parametrize("is_the_clients", [True, False])
def test_a_note_of_litellms_own_hooks_stays_and_a_clients_goes(is_the_clients: bool) -> None:
    note = {"of": "a hook"}
    body = {"model": "m", **({"_headroom_request_context": note} if is_the_clients else {})}
    data = {"model": "m", "_headroom_request_context": note, "proxy_server_request": {"body": body}}
    apply_controls(data, is_under_budget=False)
    assert ("_headroom_request_context" in data) is not is_the_clients
