"""What a spent budget leaves open, and what it does not."""

import sys
from collections.abc import Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm.types.utils import CallTypes

from spendmeter_gateway.admission.cost_bound import Model
from spendmeter_gateway.litellm.admission.free_requests import (
    MAX_MODELS,
    Served,
    are_free,
    is_free,
    is_free_at,
    is_free_route,
    is_free_type,
    served_at,
    served_by,
)
from spendmeter_gateway.model import Deployment

FREE = Model({"input_cost_per_token": 0, "output_cost_per_token": 0}, None, None)
PRICED = Model({"input_cost_per_token": 150, "output_cost_per_token": 0}, None, None)
UNPRICED = Model({}, None, None)
CALLED = Deployment("group", "openai/house-model-of-nobody", "openai")
PER_REQUEST = Model({"input_cost_per_token": 0, "input_cost_per_request": 5}, None, None)
WITH_MARGIN = FREE._replace(surcharge_femtousd=1)
MODELS: dict[str, list[Model]] = {
    "free-local": [FREE],
    "also-free": [FREE, FREE],
    "gpt-4o": [PRICED],
    "mixed": [FREE, PRICED],
    "half-known": [FREE, UNPRICED],
    "unpriced": [UNPRICED],
    "per-request": [PER_REQUEST],
    "with-margin": [WITH_MARGIN],
}


def models(name: str) -> Sequence[Served]:
    return [Served(model, {}) for model in MODELS.get(name, ())]


def asks(model: object = None, call_type: str = "acompletion", path: str = "/v1/chat/completions") -> bool:
    return is_free(call_type, "POST", path, {} if model is None else {"model": model}, models)


@pytest.mark.parametrize("model", ["free-local", "also-free", "free-local,also-free", ["free-local"]])
def test_a_model_whose_every_price_is_zero_is_served(model: object) -> None:
    assert asks(model)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "mixed",
        "half-known",
        "unpriced",
        "per-request",
        "with-margin",
        "nobody-knows-it",
        "free-local,gpt-4o",
        "free-local, gpt-4o",
        "free-local,",
        ",",
        "",
        None,
        7,
        {"model": "free-local"},
        ["free-local", "gpt-4o"],
        ["free-local", 7],
        [],
        ",".join(["free-local"] * (MAX_MODELS + 1)),
        ["free-local"] * (MAX_MODELS + 1),
    ],
)
def test_a_model_that_may_cost_something_is_judged(model: object) -> None:
    assert not asks(model)


def test_a_price_in_the_body_frees_nobody() -> None:
    body = {"model": "gpt-4o", "input_cost_per_token": 0, "output_cost_per_token": 0}

    assert not is_free("acompletion", "POST", "/v1/chat/completions", body, models)


def test_a_model_of_the_provider_is_not_the_routers_of_that_name() -> None:
    path = "/openai_passthrough/v1/chat/completions"

    assert not asks("free-local", "pass_through_endpoint", path)
    assert not asks("free-local", "allm_passthrough_route", "/bedrock/model/free-local/converse")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/batches/b1"),
        ("GET", "/v1/batches"),
        ("POST", "/v1/batches/b1/cancel"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/f1/content"),
        ("POST", "/v1/files"),
        ("POST", "/files"),
        ("POST", "/azure/v1/files"),
        ("DELETE", "/v1/files/f1"),
        ("GET", "/v1/responses/r1"),
        ("GET", "/v1/responses/r1/input_items"),
        ("POST", "/v1/responses/r1/cancel"),
        ("POST", "/openai/v1/responses/r1/cancel"),
        ("DELETE", "/v1/responses/r1"),
        ("POST", "/v1/fine_tuning/jobs/j1/cancel"),
        ("POST", "/v1/threads/t1/runs/r1/cancel"),
        ("POST", "/v1beta/interactions/i1/cancel"),
        ("GET", "/v1/videos/v1/content"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/responses/input_tokens"),
        ("POST", "/utils/token_counter"),
        ("POST", "/v1beta/models/gemini-2.5-flash:countTokens"),
        ("GET", "/health/liveliness"),
        ("GET", "/health/readiness"),
        ("GET", "/mcp-rest/tools/list"),
    ],
)
def test_reading_cancelling_and_counting_stay_open(method: str, path: str) -> None:
    assert is_free_route("", method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openai_passthrough/v1/models"),
        ("GET", "/gemini/v1beta/models"),
        ("GET", "/anthropic/v1/messages/batches/b1/results"),
        ("DELETE", "/openai_passthrough/v1/files/f1"),
        ("POST", "/openai_passthrough/v1/batches/b1/cancel"),
        ("POST", "/anthropic/v1/messages/count_tokens"),
        ("POST", "/gemini/v1beta/models/gemini-2.5-flash:countTokens"),
    ],
)
def test_so_they_do_at_a_provider_behind_a_pass_through_route(method: str, path: str) -> None:
    assert is_free_route("pass_through_endpoint", method, path)


@pytest.mark.parametrize(
    ("call_type", "method", "path"),
    [
        ("acompletion", "POST", "/v1/chat/completions"),
        ("", "GET", "/health"),
        ("", "GET", "/health/"),
        ("", "GET", "/health/services"),
        ("", "POST", "/health/test_connection"),
        ("acreate_batch", "POST", "/v1/batches"),
        ("aresponses", "POST", "/v1/responses"),
        ("aresponses", "POST", "/v1/responses/compact"),
        ("", "POST", "/v1/threads/t1/runs"),
        ("", "POST", "/v1/vector_stores/vs1/search"),
        ("", "PUT", "/v1/batches/b1/cancel"),
        # A websocket begins as a GET, and has no method in ASGI.
        ("_arealtime", "", "/v1/realtime"),
        # An operator's own pass-through route may be billed by GET: a search API.
        ("pass_through_endpoint", "GET", "/brave/search"),
        ("pass_through_endpoint", "POST", "/my-api/x/count_tokens"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/files"),
        # Google's verbs stand after a colon.
        ("pass_through_endpoint", "GET", "/gemini/v1beta/models/gemini-2.5-flash:generateContent"),
        # What a provider could read as another path.
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/chat/completions#/batches/b/cancel"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/chat/completions?/batches/b/cancel"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/chat/completions;/count_tokens"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/../v1/chat/count_tokens"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1//count_tokens"),
        ("pass_through_endpoint", "POST", "/openai_passthrough/v1/chat/completions%2f/count_tokens"),
        ("", "GET", ""),
    ],
)
def test_what_may_be_billed_is_judged(call_type: str, method: str, path: str) -> None:
    assert not is_free_route(call_type, method, path)


def test_moderations_are_free_unless_somebody_priced_them() -> None:
    assert asks(None, "amoderation", "/v1/moderations")
    assert asks("unpriced", "moderation", "/v1/moderations")
    assert asks("free-local", "amoderation", "/v1/moderations")
    assert not asks("gpt-4o", "amoderation", "/v1/moderations")
    # As a call to a deployment, which the router need not have.
    assert is_free_at("amoderation", [])
    assert not is_free_at("amoderation", models("gpt-4o"))
    assert not is_free_at("acompletion", [])


FREE_TYPES = {
    "a_add_message",
    "add_message",
    "alist_input_items",
    "cancel_batch",
    "cancel_fine_tuning_job",
    "create_assistants",
    "create_file",
    "create_thread",
    "delete_assistant",
    "delete_container",
    "delete_sandbox",
    "file_content",
    "file_delete",
    "file_list",
    "file_retrieve",
    "get_assistants",
    "get_messages",
    "get_thread",
    "list_container_files",
    "list_containers",
    "list_fine_tuning_jobs",
    "list_mcp_tools",
    "retrieve_batch",
    "retrieve_container",
    "retrieve_fine_tuning_job",
    "vector_store_file_content",
    "vector_store_file_delete",
    "vector_store_file_list",
    "vector_store_file_retrieve",
    "video_content",
    "video_delete",
    "video_get_character",
    "video_list",
    "video_retrieve",
    "video_retrieve_job",
}


@pytest.mark.parametrize("call_type", [one.value for one in CallTypes])
def test_of_litellms_call_types_these_are_free_and_all_others_are_judged(call_type: str) -> None:
    assert is_free_type(call_type) is (
        call_type.removeprefix("a").removeprefix("_") in FREE_TYPES or call_type in FREE_TYPES
    )


@pytest.mark.parametrize(
    "call_type",
    [
        "aget_responses",
        "adelete_responses",
        "acancel_responses",
        "avideo_status",
        "alist_batches",
        "alist_skills",
    ],
)
def test_names_that_litellm_uses_without_listing_them_are_free_as_well(call_type: str) -> None:
    assert is_free_type(call_type)


@pytest.mark.parametrize("call_type", ["acreate_eval", "acreate_run", "acompact_responses", "ai_query", ""])
def test_names_that_nobody_knows_are_judged(call_type: str) -> None:
    assert not is_free_type(call_type)


@given(
    call_type=st.text(max_size=20) | st.sampled_from([one.value for one in CallTypes]),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "", "get", "PATCH"]) | st.text(max_size=5),
    path=st.text(max_size=80),
    model=st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=8),
)
def test_nothing_that_a_client_sends_makes_it_raise(
    call_type: str, method: str, path: str, model: object
) -> None:
    assert is_free(call_type, method, path, {"model": model}, models) in (True, False)


@pytest.mark.parametrize(
    ("price", "free"),
    [
        ({}, True),
        ({"ocr_cost_per_page": 0}, True),
        ({"ocr_cost_per_page": 0.001}, False),
        ({"ocr_cost_per_page": "1e-3"}, False),
        ({"ptu_count": 5, "cost_per_ptu_per_hour": 1.0}, False),
        ({"search_context_cost_per_query": {"search_context_size_low": 0.03}}, False),
        ({"search_context_cost_per_query": {"search_context_size_low": 0.0}}, True),
        ({"tiered_pricing": [{"range": [0, 1], "input_cost_per_token": 1e-6}]}, False),
        ({"cost": True, "price_of": "nothing", "rpm": 5}, True),
    ],
)
@pytest.mark.parametrize("part", ["litellm_params", "model_info"])
def test_a_price_of_another_unit_is_a_price(price: dict[str, Any], free: bool, part: str) -> None:
    assert are_free([Served(FREE, {part: price})]) is free


@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")
def test_a_call_is_free_by_its_deployment_in_the_router_and_by_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = _router([(0, 0, False), (1e-6, 0, False)])
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", SimpleNamespace(llm_router=router))

    def at(deployment_id: str | None) -> bool:
        return are_free(served_at(router, CALLED._replace(id=deployment_id), None))

    assert at(f"{id(router)}-0")
    assert not at(f"{id(router)}-1")
    assert not at("nobody's")
    assert not at(None)


def test_without_a_router_nothing_is_free() -> None:
    assert not are_free(served_by(None, "free-local", None, None))


PRICES = st.sampled_from([None, 0, 0.0, 1e-6])
DEPLOYMENTS = st.lists(st.tuples(PRICES, PRICES, st.booleans()), min_size=1, max_size=2)


@pytest.fixture(scope="module")
def is_model_cost_zero() -> Any:
    """LiteLLM's own check. Not imported above: as it loads, pydantic warns of its types."""
    return import_module("litellm.proxy.auth.auth_checks").is_model_cost_zero


@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")
@given(deployments=DEPLOYMENTS)
def test_what_is_free_here_is_free_for_litellm(
    is_model_cost_zero: Any, deployments: list[tuple[Any, Any, bool]]
) -> None:
    """One group on a real router: never free where LiteLLM's own check would judge it."""
    router = _router(deployments)
    ours = are_free(served_by(router, f"group-{id(router)}", None, None))
    theirs = is_model_cost_zero(f"group-{id(router)}", router)
    every_price_is_zero = all(price == 0 for one in deployments for price in one[:2])

    assert theirs or not ours
    if every_price_is_zero:
        assert ours
        assert theirs


def _router(deployments: list[tuple[Any, Any, bool]]) -> litellm.Router:
    configured = import_module("litellm.types.router").Deployment
    router = litellm.Router(model_list=[])
    for number, (input_price, output_price, in_info) in enumerate(deployments):
        prices = {
            name: price
            for name, price in (
                ("input_cost_per_token", input_price),
                ("output_cost_per_token", output_price),
            )
            if price is not None
        }
        params = {"model": "openai/house-model-of-nobody", "api_key": "x", **({} if in_info else prices)}
        info = {"id": f"{id(router)}-{number}", **(prices if in_info else {})}
        router.add_deployment(
            configured(model_name=f"group-{id(router)}", litellm_params=params, model_info=info)
        )
    return router
