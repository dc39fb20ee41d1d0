"""An answer is priced once: at the post-call hook, in LiteLLM's log event and at settlement."""

from typing import Any

import litellm
import pytest
from litellm.types.utils import ModelResponse, Usage

from spendmeter.domain.matching import Subject
from spendmeter_gateway.exchange import Call, Exchange
from spendmeter_gateway.litellm.models import model_of
from spendmeter_gateway.litellm.recording.call_drafts import CallDrafts
from spendmeter_gateway.model import Caller, Deployment, UsageDraft

pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")

MODEL = "gpt-4o-mini"
ARGUMENTS = {"model": f"openai/{MODEL}", "messages": [{"role": "user", "content": "Hello"}]}
DRAFTS = CallDrafts(lambda call: model_of(None, {"litellm_params": call.arguments}, MODEL, None))


@pytest.fixture
def pricings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The answers that LiteLLM was asked to price."""
    priced: list[Any] = []
    right = litellm.completion_cost

    def completion_cost(**given: Any) -> float:
        priced.append(given["completion_response"])
        return float(right(**given))

    monkeypatch.setattr(litellm, "completion_cost", completion_cost)
    return priced


def answer(output_tokens: int = 40) -> ModelResponse:
    usage = Usage(prompt_tokens=100, completion_tokens=output_tokens, total_tokens=100 + output_tokens)
    return ModelResponse(id=f"chatcmpl-{output_tokens}", model=MODEL, usage=usage)


def answered(response: object) -> Call:
    caller = Caller(Subject(key="k", model_group="gpt"), "k")
    call = Exchange().open(caller, Deployment("gpt", MODEL, "openai"), "acompletion", ARGUMENTS, None)
    call.answered(response)
    return call


def priced(call: Call) -> UsageDraft:
    draft = DRAFTS.answered(call)
    assert draft is not None
    return draft


def test_an_answer_is_priced_once_whoever_needs_its_event(pricings: list[Any]) -> None:
    call = answered(answer())

    first, second = priced(call), priced(call)

    assert len(pricings) == 1
    assert first.fields["cost_nanousd"] == 100 * 150 + 40 * 600
    assert second.fields["occurred_at"] >= first.fields["occurred_at"], "the event is as old as its record"
    same = {"occurred_at": None, "started_at": None}
    assert {**first.fields, **same} == {**second.fields, **same}


@pytest.mark.parametrize("as_dict", [False, True])
def test_an_answer_that_by_now_says_that_more_was_used_is_priced_again(
    pricings: list[Any], *, as_dict: bool
) -> None:
    response = answer().model_dump() if as_dict else answer()
    call = answered(response)
    first = priced(call).fields
    usage = response["usage"] if isinstance(response, dict) else response.usage

    if isinstance(usage, dict):
        usage |= {"completion_tokens": 50, "total_tokens": 150}
    else:
        usage.completion_tokens, usage.total_tokens = 50, 150

    second = priced(call).fields
    assert (len(pricings), second["output_tokens"]) == (2, 50)
    assert second["cost_nanousd"] - first["cost_nanousd"] == 10 * 600


def test_another_answer_is_another_price(pricings: list[Any]) -> None:
    call = answered(answer())
    priced(call)

    call.answered(answer(50))

    assert (priced(call).fields["output_tokens"], len(pricings)) == (50, 2)
    assert priced(call).fields["response_id"] == "chatcmpl-50"


def test_when_all_is_settled_nothing_of_the_price_is_kept(pricings: list[Any]) -> None:
    call = answered(answer())
    priced(call)

    call.exchange.forget()

    assert call.priced is None
