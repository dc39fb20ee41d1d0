"""What is a refusal of a budget, and what is not."""

import json
from decimal import Decimal
from typing import Any

import httpx
import litellm
import openai
import pytest

from spendmeter.retry.refusals import STATUSES, read_refusal, refusal_of

MESSAGE = "Budget has been exceeded! Key=k1 Current cost: 0.00105, Max budget: 1e-03"
OURS = {"retry-after": "90", "x-spendmeter-budget": "key-day"}


def body(kind: str = "budget_exceeded", message: str = MESSAGE) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": "422"}}).encode()


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_our_refusal_tells_budget_figures_and_time(status: int) -> None:
    refusal = read_refusal(status, OURS, body())
    assert refusal is not None
    assert refusal == (MESSAGE, "key-day", Decimal("0.00105"), Decimal("0.001"), 90.0)


def test_litellms_own_refusal_is_one_too_and_tells_less() -> None:
    refusal = read_refusal(422, {}, body())
    assert refusal is not None
    assert (refusal.budget, refusal.retry_after_seconds) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "error", "error": {"type": "api_error", "message": MESSAGE}},
        {"error": {"type": "invalid_request_error", "message": MESSAGE}},
        {"error": {"type": "budget_unverified", "message": "Budget cannot be verified at the moment."}},
        {"error": {"type": "budget_exceeded", "message": "Budget would be exceeded! Key=k1"}},
        {"type": "budget_exceeded", "message": MESSAGE},
    ],
)
def test_every_shape_of_a_refusal_is_known(answer: dict[str, Any]) -> None:
    assert read_refusal(422, {}, json.dumps(answer)) is not None
    assert read_refusal(422, {}, answer) is not None


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, body()),
        (401, body()),
        (500, body()),
        (429, body("rate_limit_error", "Rate limit reached")),
        (429, body("rate_limit_error", MESSAGE)),
        (400, body("invalid_request_error", "max_tokens is too large")),
        (403, body("budget_unpriced")),
        (422, body("budget_unpriced", "Budget allows no model whose price is not known")),
        (503, body("service_unavailable", "try again")),
        (422, b"not json"),
        (422, b"[]"),
        (422, b'{"error": "text"}'),
        (422, b'{"detail": []}'),
        (422, None),
    ],
)
def test_nothing_else_is_a_refusal(status: int, answer: object) -> None:
    assert read_refusal(status, {}, answer) is None


def test_litellms_exception_is_a_refusal_with_its_figures() -> None:
    refusal = refusal_of(litellm.BudgetExceededError(current_cost=1.25, max_budget=1.0))
    assert refusal is not None
    assert (refusal.spent_usd, refusal.limit_usd) == (Decimal("1.25"), Decimal("1.0"))


@pytest.mark.parametrize(
    ("kind", "is_waited_for"),
    [("budget_exceeded", True), ("budget_unverified", True), ("budget_unpriced", False)],
)
def test_of_the_sdks_exceptions_those_that_waiting_helps_are_refusals(kind: str, is_waited_for: bool) -> None:
    error = litellm.BudgetExceededError(current_cost=1.0, max_budget=1.0)
    error.type, error.headers = kind, OURS
    refusal = refusal_of(error)
    assert (refusal is not None) is is_waited_for
    assert refusal is None or (refusal.budget, refusal.retry_after_seconds) == ("key-day", 90.0)


def test_the_openai_clients_exception_is_a_refusal() -> None:
    with httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(422, content=body(), headers=OURS))
    ) as http:
        client = openai.OpenAI(base_url="http://gateway.test", api_key="k", http_client=http)
        with pytest.raises(openai.APIStatusError) as raised:
            client.models.list()
    refusal = refusal_of(raised.value)
    assert refusal is not None
    assert (refusal.budget, refusal.spent_usd, refusal.retry_after_seconds) == (
        "key-day",
        Decimal("0.00105"),
        90.0,
    )


def test_the_exception_of_a_plain_httpx_answer_is_a_refusal() -> None:
    request = httpx.Request("POST", "http://gateway.test")
    response = httpx.Response(422, content=body(), request=request)
    assert refusal_of(httpx.HTTPStatusError("", request=request, response=response)) is not None


@pytest.mark.parametrize("error", [ValueError(MESSAGE), TimeoutError(), KeyError("budget_exceeded")])
def test_no_other_exception_is(error: Exception) -> None:
    assert refusal_of(error) is None
