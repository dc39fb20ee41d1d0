"""Which failures leave a bill: what was given up or could not be read, not what the provider refused."""

import json

import httpx
import openai
import pytest

from spendmeter_gateway.litellm.payload.failures import was_cut

REQUEST = httpx.Request("POST", "http://provider/v1")


def status(code: int) -> Exception:
    response = httpx.Response(code, request=REQUEST)
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        return wrapped(openai.APIStatusError("no", response=response, body=None), error)
    raise AssertionError(code)


def wrapped(outer: Exception, inner: BaseException) -> Exception:
    """As LiteLLM raises one error while it handles another."""
    try:
        try:
            raise inner
        except BaseException:
            raise outer  # noqa: B904  # as LiteLLM does
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (httpx.ReadTimeout("late"), True),
        (httpx.ReadError("reset"), True),
        (TimeoutError(), True),
        (json.JSONDecodeError("no", "{", 1), True),
        (KeyError("usage"), True),
        (httpx.ConnectError("away"), False),
        (httpx.ConnectTimeout("away"), False),
        (status(400), False),
        (status(500), False),
        (ValueError("no such model"), False),
    ],
    ids=repr,
)
def test_a_bill_is_left_by(cause: Exception, expected: bool) -> None:
    assert was_cut(cause) is expected
    assert was_cut(wrapped(RuntimeError("litellm"), cause)) is expected


def test_what_litellm_runs_into_beside_a_providers_error_changes_nothing() -> None:
    assert not was_cut(wrapped(KeyError("error"), status(429)))


def test_what_openais_client_could_not_send_leaves_no_bill() -> None:
    unsent = openai.APIConnectionError(request=REQUEST)
    unsent.__cause__ = TypeError("'>=' not supported between instances of 'str' and 'int'")
    broken = openai.APIConnectionError(request=REQUEST)
    broken.__cause__ = httpx.ReadError("reset")

    assert not was_cut(wrapped(RuntimeError("litellm"), unsent))
    assert was_cut(wrapped(RuntimeError("litellm"), broken))


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ValueError("usageMetadata not found"), True),
        (status(400), False),
        (httpx.ConnectError("away"), False),
    ],
    ids=repr,
)
def test_an_answer_that_was_noted_leaves_a_bill_whatever_litellm_made_of_it(
    cause: Exception, expected: bool
) -> None:
    assert was_cut(wrapped(RuntimeError("litellm"), cause), was_answered=True) is expected


def test_the_failure_that_led_to_a_fallback_is_no_cause_of_the_fallbacks_own() -> None:
    earlier = wrapped(RuntimeError("litellm"), httpx.ConnectError("away"))
    own = wrapped(RuntimeError("litellm"), wrapped(json.JSONDecodeError("no", "{", 1), earlier))

    assert not was_cut(own), "as long as nobody says where the call began"
    assert was_cut(own, earlier_error=id(earlier))
    assert not was_cut(earlier, earlier_error=id(earlier))
