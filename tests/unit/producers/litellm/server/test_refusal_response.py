"""The answer that a refused client gets, route by route."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.budget import Budget
from spendmeter.contract.decision import Why
from spendmeter.contract.money import NanoUsd
from spendmeter.domain.matching import Account, Subject
from spendmeter.domain.window import Window
from spendmeter.retry.refusals import read_refusal
from spendmeter.values.account import account_name
from spendmeter_gateway.admission.decide import BLIND_AT_START, Denied
from spendmeter_gateway.admission.refusal import MAX_ACCOUNT_HEADER_CHARS, Refusal, refusal_of
from spendmeter_gateway.litellm.server.refusal_response import (
    MAX_UNPACKED_BYTES,
    RefusalResponse,
    is_about,
    refusal_response,
    status_of,
    with_refusal_headers,
)
from spendmeter_gateway.model import Caller
from spendmeter_gateway.spend.window_balance import KnownSpend

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALLER = Caller(Subject(key="abc", team="red"), "my-key")
BUDGET = Budget(
    id="red-day", match={"team": "red"}, limit_nanousd=NanoUsd(1_000_000), period="day", updated_at=NOW
)
MESSAGE = (
    "Budget has been exceeded! Team=red Current cost: 0.00105, Max budget: 0.001"
    " (budget red-day, period day, until 2026-11-23T00:00:00+00:00)"
)

OPENAI = (
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/engines/gemini/completions",
    "/openai/deployments/anthropic/chat/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/moderations",
    "/v1/batches",
    "/v1/files",
    "/v1/videos",
    "/v1/ocr",
    "/v1/fine_tuning/jobs",
    "/v1/threads/t1/messages",
    "/v1/vector_stores/vs_1/search",
    "/openai_passthrough/v1/chat/completions",
    "/azure/openai/deployments/gpt/chat/completions",
    "/gemini/v1beta/openai/chat/completions",
    "/mcp-rest/tools/call",
    "/rag/query",
    "/health",
    "/v1/models/gemini",
    "/something/new",
    "",
)
ANTHROPIC = (
    "/v1/messages",
    "/litellm/prefix/v1/messages",
    "/v1/messages/count_tokens",
    "/anthropic/v1/messages",
    "/claude_code_gateway/v1/messages",
    "/v1/skills",
    "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5:rawPredict",
)
GOOGLE = (
    "/v1beta/models/gemini-2.5-flash:generateContent",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    "/models/gemini-2.5-flash:generateContent",
    "/v1beta/interactions",
    "/gemini/v1beta/models/gemini-2.5-flash:generateContent",
    "/vertex_ai/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent",
    "/vertex-ai/v1/projects/p/locations/l/endpoints/1:predict",
)


def refuse(**changes: Any) -> Denied:
    made = Denied(
        Why.LIMIT_REACHED,
        Account(BUDGET, "red-day|team=red", (("team", "red"),)),
        Window(NOW - timedelta(hours=12), NOW + timedelta(hours=12)),
        NanoUsd(1_050_000),
        NanoUsd(1_000_000),
        KnownSpend(1_050_000, 0, 840_000, {}, None),
    )
    return made._replace(**changes)


def refusal(**changes: Any) -> Refusal:
    return refusal_of(refuse(**changes), CALLER, NOW)


def texts_in(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


def answer(path: str, status: int = 422, **changes: Any) -> tuple[RefusalResponse, dict[str, Any]]:
    response = refusal_response(refusal(**changes), path, litellm_status=status)
    return response, json.loads(response.body)


@pytest.mark.parametrize("path", OPENAI)
def test_openais_routes_get_the_error_that_litellm_itself_answers(path: str) -> None:
    response, body = answer(path)

    assert response.status == 422
    assert body == {"error": {"message": MESSAGE, "type": "budget_exceeded", "param": None, "code": "422"}}


@pytest.mark.parametrize("path", ANTHROPIC)
def test_anthropics_routes_get_anthropics_error_with_litellms_type(path: str) -> None:
    _, body = answer(path)

    assert body["type"] == "error"
    assert body["error"]["type"] == "budget_exceeded"
    assert body["error"]["message"] == MESSAGE


@pytest.mark.parametrize("path", GOOGLE)
@pytest.mark.parametrize("status", [400, 422, 429])
def test_googles_routes_get_googles_error(path: str, status: int) -> None:
    response, body = answer(path, status)

    assert response.status == status
    assert body["error"]["code"] == status, "a number"
    assert body["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert body["error"]["message"] == MESSAGE
    assert body["error"]["type"] == "budget_exceeded"


def test_bedrocks_route_gets_awss_error_which_its_clients_do_not_try_again() -> None:
    response, body = answer("/bedrock/model/anthropic.claude-v2/converse")

    assert body["message"] == MESSAGE
    assert dict(response.headers)[b"x-amzn-errortype"] == b"ServiceQuotaExceededException"


def test_coheres_route_gets_its_message_at_the_top() -> None:
    _, body = answer("/cohere/v1/rerank")

    assert body["message"] == body["error"]["message"] == MESSAGE


@pytest.mark.parametrize("path", ["/mcp", "/github/mcp", "/a2a/agent", "/v1/a2a/agent/message/send"])
def test_json_rpc_routes_get_its_error(path: str) -> None:
    _, body = answer(path)

    assert body["jsonrpc"] == "2.0"
    assert body["error"]["message"] == MESSAGE
    assert body["error"]["data"]["type"] == "budget_exceeded"


@pytest.mark.parametrize("path", [*OPENAI, *ANTHROPIC, *GOOGLE, "/bedrock/x", "/cohere/x", "/mcp"])
def test_every_route_has_the_headers_that_the_documentation_promises(path: str) -> None:
    told = refusal()
    response = refusal_response(told, path, litellm_status=422)
    headers = {name.decode(): value.decode() for name, value in response.headers}

    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(response.body))
    assert told.headers.items() <= headers.items()
    assert set(told.headers) == {
        "retry-after",
        "x-should-retry",
        "x-spendmeter-account",
        "x-spendmeter-budget",
        "x-spendmeter-budget-limit-usd",
        "x-spendmeter-budget-resets-at",
        "x-spendmeter-decision",
    }


@pytest.mark.parametrize("path", [OPENAI[0], ANTHROPIC[0], GOOGLE[0], "/bedrock/x"])
def test_our_own_client_reads_the_refusal_on_every_shape(path: str) -> None:
    response = refusal_response(refusal(), path, litellm_status=422)
    headers = {name.decode(): value.decode() for name, value in response.headers}
    read = read_refusal(response.status, headers, response.body)

    assert read is not None
    assert (str(read.spent_usd), str(read.limit_usd)) == ("0.00105", "0.001")
    assert read.budget == "red-day"


@pytest.mark.parametrize(
    ("why", "status", "kind", "google", "aws"),
    [
        (Why.LIMIT_REACHED, 429, "budget_exceeded", "RESOURCE_EXHAUSTED", "ServiceQuotaExceededException"),
        (Why.NO_ROOM, 429, "budget_exceeded", "RESOURCE_EXHAUSTED", "ServiceQuotaExceededException"),
        (Why.BLIND, 503, "budget_unverified", "UNAVAILABLE", "ServiceUnavailableException"),
        (Why.UNPRICED, 403, "budget_unpriced", "PERMISSION_DENIED", "AccessDeniedException"),
        (Why.UNBOUNDED, 403, "budget_unpriced", "PERMISSION_DENIED", "AccessDeniedException"),
        (Why.CONTROL, 400, "invalid_request_error", "INVALID_ARGUMENT", "ValidationException"),
        (Why.TAG_MISSING, 400, "invalid_request_error", "INVALID_ARGUMENT", "ValidationException"),
    ],
)
def test_each_kind_has_its_status_and_type(why: Why, status: int, kind: str, google: str, aws: str) -> None:
    made = refusal(why=why, named="x" if status == 400 else None)
    of_google = json.loads(refusal_response(made, GOOGLE[0], litellm_status=429).body)
    of_aws = dict(refusal_response(made, "/bedrock/x", litellm_status=429).headers)

    assert status_of(made, 429) == status
    assert made.type == kind
    assert of_google["error"]["status"] == google
    assert of_aws[b"x-amzn-errortype"] == aws.encode()


def test_every_kind_is_in_the_table_above() -> None:
    rows = test_each_kind_has_its_status_and_type.pytestmark[0].args[1]  # type: ignore[attr-defined]

    assert {row[0] for row in rows} == set(Why)


def test_a_control_that_cannot_be_metered_is_named() -> None:
    response, body = answer("/v1/chat/completions", why=Why.CONTROL, named="router_settings_override")

    assert response.status == 400
    assert body["error"]["param"] == "router_settings_override"
    assert "`router_settings_override`" in body["error"]["message"]
    assert b"retry-after" not in dict(response.headers), "to wait does not help"


def test_a_missing_tag_is_named() -> None:
    _, body = answer("/v1/messages", why=Why.TAG_MISSING, named="tag")

    assert body["error"]["type"] == "invalid_request_error"
    assert "`tag`" in body["error"]["message"]


def test_a_gateway_that_is_blind_before_it_knows_any_budget_names_who_asked() -> None:
    jwt = Caller(Subject(key="", user="ann"), "ann")
    body = json.loads(
        refusal_response(refusal_of(BLIND_AT_START, jwt, NOW), "/v1/responses", litellm_status=422).body
    )

    assert body["error"]["message"] == "Budget cannot be verified at the moment. User=ann"
    assert body["error"]["code"] == "503"


def test_litellms_other_headers_stay_and_those_of_its_body_go() -> None:
    response = refusal_response(refusal(), "/v1/rerank", litellm_status=422)
    theirs = [
        (b"Content-Type", b"text/event-stream"),
        (b"content-length", b"7"),
        (b"content-encoding", b"gzip"),
        (b"access-control-allow-origin", b"*"),
        (b"x-litellm-call-id", b"1"),
        (b"retry-after", b"1"),
    ]
    merged = with_refusal_headers(theirs, response)

    assert [name.lower() for name, _ in merged].count(b"content-type") == 1
    assert (b"access-control-allow-origin", b"*") in merged
    assert (b"x-litellm-call-id", b"1") in merged
    assert b"content-encoding" not in dict(merged)
    assert dict(merged)[b"content-length"] == str(len(response.body)).encode()
    assert [value for name, value in merged if name == b"retry-after"] == [b"43200"]


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"error": {"message": MESSAGE}}, True),
        ({"error": {"message": MESSAGE + "\n\nLiteLLM: model group 'x' failed with the error above."}}, True),
        ({"detail": {"error": MESSAGE}}, True),
        ({"message": MESSAGE}, True),
        ([{"error": {"message": MESSAGE}}], True),
        ({"healthy_endpoints": [], "unhealthy_endpoints": [{"error": MESSAGE}]}, False),
        ({"error": {"message": "litellm.APIConnectionError: the upstream is down"}}, False),
        ({"error": {"message": MESSAGE.replace("Team=red", "Team=blue")}}, False),
    ],
)
def test_the_refusal_is_known_in_whatever_litellm_made_of_it(body: object, about: bool) -> None:
    assert is_about(json.dumps(body).encode(), refusal()) is about


def test_the_refusal_is_known_in_a_compressed_body_as_well() -> None:
    body = json.dumps({"error": {"message": MESSAGE}}).encode()
    other = json.dumps({"error": {"message": "the upstream is down"}}).encode()

    assert is_about(gzip.compress(body), refusal())
    assert not is_about(gzip.compress(other), refusal())
    assert not is_about(gzip.compress(body)[:20], refusal())
    assert not is_about(b"\x1f\x8b is no gzip", refusal())


def test_a_body_that_would_unpack_to_too_much_is_read_no_further() -> None:
    bomb = gzip.compress(b" " * MAX_UNPACKED_BYTES + json.dumps(MESSAGE).encode())

    assert not is_about(bomb, refusal())


@given(
    team=st.text(min_size=1, max_size=300),
    named=st.none() | st.text(max_size=300),
    why=st.sampled_from(Why),
    path=st.text(max_size=60) | st.sampled_from([*OPENAI, *ANTHROPIC, *GOOGLE]),
)
def test_what_a_client_chose_splits_no_header_and_no_line(
    team: str, named: str | None, why: Why, path: str
) -> None:
    account = Account(BUDGET, "red-day|team=x", (("team", team),))
    made = refusal_of(refuse(account=account, why=why, named=named), CALLER, NOW)
    response = refusal_response(made, path, litellm_status=422)

    for name, value in response.headers:
        assert name.islower()
        assert all(32 <= byte < 127 for byte in name + value)
    assert made.message.replace("�", "").isprintable()
    assert len(made.message) < 800
    assert made.message in texts_in(json.loads(response.body))
    assert is_about(response.body, made)


def test_an_account_that_is_too_long_for_a_header_is_left_out_of_it() -> None:
    def headers(length: int) -> dict[str, str]:
        name = account_name("red-day", [("team", "x" * length)])
        return refusal(account=Account(BUDGET, name, (("team", "x" * length),))).headers

    fits = MAX_ACCOUNT_HEADER_CHARS - len("red-day|team=")
    assert "x-spendmeter-account" in headers(fits)
    assert "x-spendmeter-account" not in headers(fits + 1)
