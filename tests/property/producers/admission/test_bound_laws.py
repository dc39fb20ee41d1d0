"""No provider can bill more than the bound of a call, wherever the client hides what it asks for."""

from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spendmeter_gateway.admission.cost_bound import Bound, Model, bound_of
from spendmeter_gateway.litellm.request.controls import apply_controls, strip_final
from spendmeter_gateway.litellm.request.size import limited, measure
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO

INPUT, OUTPUT = 3_000 * FEMTO_PER_NANO, 15_000 * FEMTO_PER_NANO
MODEL = Model({"input_cost_per_token": INPUT, "output_cost_per_token": OUTPUT}, 200_000, 64_000)
MODEL_OUTPUT = 64_000

counts = st.one_of(
    st.integers(0, 100_000), st.none(), st.just("16000"), st.just(-1), st.floats(0, 1e5), st.booleans()
)
texts = st.text(max_size=200)
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.one_of(texts, st.lists(texts))}), max_size=3
)
parameters: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": counts,
    "max_completion_tokens": counts,
    "n": st.integers(1, 20),
    "best_of": st.integers(1, 20),
    "messages": messages,
    "vendor": st.one_of(texts, st.dictionaries(texts, texts, max_size=3)),
    "temperature": st.floats(0, 2),
    "tools": st.lists(st.builds(lambda t: {"type": "function", "function": {"name": t}}, texts), max_size=2),
}
places = st.fixed_dictionaries({}, optional=parameters)
requests = st.builds(
    lambda root, extra, drops: {
        "model": "m",
        "messages": [],
        **root,
        **({"extra_body": extra} if extra is not None else {}),
        **({"additional_drop_params": drops} if drops else {}),
    },
    places,
    st.one_of(st.none(), places),
    st.lists(st.sampled_from(["max_tokens", "max_completion_tokens", "seed"]), max_size=2),
)


def sent(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What goes over the wire: LiteLLM drops nulls and what it is told to, `extra_body` goes over it."""
    own = ("extra_body", "additional_drop_params")
    body = {k: v for k, v in kwargs.items() if k not in own and v is not None}
    for name in kwargs.get("additional_drop_params") or ():
        body.pop(name, None)
    return body | (kwargs.get("extra_body") or {})


def billed_at_most(body: dict[str, Any]) -> int:
    """By a provider that reads each maximum as it suits it, and makes a token of each byte."""
    given = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    plain = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
    is_clear = given and len(plain) == len(given) and min(plain) >= 0
    out = min(MODEL_OUTPUT, int(max(plain))) if is_clear else MODEL_OUTPUT
    answers: int = max(body.get("n", 1), body.get("best_of", 1))
    size = sum(
        len(text.encode()) for text in texts_in(body.get("messages"), body.get("vendor"), body.get("tools"))
    )
    return size * INPUT + out * answers * OUTPUT


def texts_in(*values: Any) -> list[str]:
    found: list[str] = []
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
    return found


def bound(kwargs: dict[str, Any]) -> Bound:
    asked = measure(kwargs, "acompletion")
    assert asked is not None
    found = bound_of(asked, [MODEL], default_output_tokens=4_096, min_output_tokens=16)
    assert found is not None
    return found


@settings(max_examples=500, deadline=None)
@given(requests, st.integers(0, 64_000))
def test_no_provider_bills_more_than_the_bound_of_the_final_call(data: dict[str, Any], room: int) -> None:
    whole = bound(data)
    assert billed_at_most(sent(data)) <= whole.nanousd(whole.most_tokens) * FEMTO_PER_NANO

    tokens = min(room, whole.most_tokens)
    limited(data, "acompletion", tokens)
    assert billed_at_most(sent(data)) <= whole.nanousd(tokens) * FEMTO_PER_NANO


@settings(max_examples=200, deadline=None)
@given(requests, places)
def test_the_bound_is_of_what_a_fallback_was_merged_into(data: dict[str, Any], entry: dict[str, Any]) -> None:
    data["fallbacks"] = [{"model": "other", **deepcopy(entry)}]
    apply_controls(data, is_under_budget=True)
    data |= data.pop("fallbacks")[0]
    strip_final(data)

    whole = bound(data)
    assert billed_at_most(sent(data)) <= whole.nanousd(whole.most_tokens) * FEMTO_PER_NANO
