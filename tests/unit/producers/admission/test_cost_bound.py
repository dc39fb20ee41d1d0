"""The upper bound of a request's cost."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import litellm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm import ModelResponse, Usage

from spendmeter.contract.money import from_float_usd
from spendmeter.prices.book import PriceEntry, Used, cost_of
from spendmeter_gateway.admission.cost_bound import Bound, Model, bound_of, prices_in
from spendmeter_gateway.model import RequestSize
from spendmeter_gateway.pricing.price_draft import bounding_prices
from spendmeter_gateway.pricing.token_prices import FEMTO_PER_NANO

PRICES = {"input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05}
NOTHING = RequestSize(0, 0, 0, False, False, False, None, 0, 1, False, False, ())


def size(**changes: Any) -> RequestSize:
    return NOTHING._replace(**{"text_bytes": 1000, "has_output": True} | changes)


def model(prices: Mapping[str, Any] = PRICES, **changes: Any) -> Model:
    return Model(prices_in(prices), 200_000, 64_000)._replace(**changes)


def bound(asked: RequestSize, *models: Model, counted: int | None = None) -> Bound | None:
    return bound_of(asked, models, default_output_tokens=4_096, min_output_tokens=16, counted_tokens=counted)


def certain(asked: RequestSize, *models: Model, counted: int | None = None) -> Bound:
    found = bound(asked, *models, counted=counted)
    assert found is not None
    return found


def test_all_bytes_at_the_input_price_and_the_maximum_at_the_output_price() -> None:
    found = certain(size(max_output_tokens=100), model())

    assert found.nanousd(found.most_tokens) == 1000 * 3_000 + 100 * 15_000
    assert (found.most_tokens, found.enough_tokens, found.least_tokens) == (100, 100, 16)
    assert found.is_enforced


def test_a_price_below_a_nano_dollar_is_not_rounded_per_token() -> None:
    found = certain(size(), model({"input_cost_per_token": 2e-11, "output_cost_per_token": 1e-10}))

    assert found.nanousd(0) == 20
    assert found.nanousd(1) == 21


@pytest.mark.parametrize(
    ("asked", "limit", "most", "enough"),
    [
        (None, 64_000, 64_000, 4_096),
        (100_000, 64_000, 64_000, 64_000),
        (10, 64_000, 10, 10),
        (None, None, 4_096, 4_096),
    ],
)
def test_the_maximum_is_the_clients_or_the_models(
    asked: int | None, limit: int | None, most: int, enough: int
) -> None:
    found = certain(size(max_output_tokens=asked), model(max_output_tokens=limit))

    assert (found.most_tokens, found.enough_tokens) == (most, enough)
    assert found.is_enforced == (asked is not None or limit is not None)


def test_thinking_that_needs_more_than_the_default_gets_it() -> None:
    found = certain(size(least_output_tokens=10_001), model())

    assert (found.enough_tokens, found.least_tokens) == (10_001, 10_001)


def test_of_several_deployments_the_dearest_counts() -> None:
    cheap, dear = model(), model({"input_cost_per_token": 6e-06, "output_cost_per_token": 1e-06})
    found = certain(size(max_output_tokens=10), cheap, dear)

    assert found.nanousd(10) == 1000 * 6_000 + 10 * 15_000


@pytest.mark.parametrize("prices", [{}, {"input_cost_per_token": None}, {"input_cost_per_token": "free"}])
def test_one_deployment_without_a_price_leaves_it_unbounded(prices: dict[str, Any]) -> None:
    assert bound(size(), model(), model(prices)) is None
    assert bound(size()) is None


@pytest.mark.parametrize("field", ["input_cost_per_second", "output_cost_per_second"])
def test_nothing_bounds_what_is_billed_by_time(field: str) -> None:
    assert bound(size(), model(PRICES | {field: 0.01})) is None


def test_nothing_bounds_tools_that_are_billed_per_use() -> None:
    assert bound(size(has_paid_tools=True), model()) is None


@pytest.mark.parametrize(
    ("changes", "price", "nano"),
    [
        ({}, {"cache_creation_input_token_cost": 4e-06}, 4_000),
        ({}, {"cache_creation_input_token_cost_above_1hr": 4e-06}, 3_000),
        ({"caches_for_an_hour": True}, {"cache_creation_input_token_cost_above_1hr": 4e-06}, 4_000),
        ({}, {"input_cost_per_token_priority": 4e-06}, 3_000),
        ({"is_hurried": True}, {"input_cost_per_token_priority": 4e-06}, 4_000),
        ({}, {"input_cost_per_audio_token": 4e-06}, 3_000),
        ({}, {"tiered_pricing": [{"range": [0, 1], "input_cost_per_token": 4e-06}]}, 4_000),
    ],
)
def test_the_highest_price_that_may_apply_counts(
    changes: dict[str, Any], price: dict[str, Any], nano: int
) -> None:
    assert certain(size(**changes), model(PRICES | price)).nanousd(0) == 1000 * nano


@pytest.mark.parametrize(("tokens", "nano"), [(200_000, 3_000), (200_001, 6_000)])
def test_long_contexts_cost_more_from_their_first_token_on(tokens: int, nano: int) -> None:
    prices = PRICES | {"input_cost_per_token_above_200k_tokens": 6e-06}
    found = certain(size()._replace(text_bytes=tokens), model(prices, max_input_tokens=None))

    assert found.nanousd(0) == tokens * nano


def test_what_cannot_be_counted_fills_the_models_window_at_the_most() -> None:
    assert certain(size(is_open=True), model()).nanousd(0) == 200_000 * 3_000
    assert bound(size(is_open=True), model(max_input_tokens=None)) is None


def test_counted_tokens_tighten_the_bound_by_what_the_tokenizers_may_differ() -> None:
    assert certain(size(), model(), counted=100).nanousd(0) == 200 * 3_000
    assert certain(size(), model(tokens_per_counted=Decimal("1.1")), counted=100).nanousd(0) == 110 * 3_000
    assert certain(size(), model(), counted=900).nanousd(0) == 1000 * 3_000, "never above the bytes"


def test_margins_and_surcharges_are_part_of_it() -> None:
    found = certain(size(), model(factor=Decimal("1.1"), surcharge_femtousd=10 * FEMTO_PER_NANO))

    assert found.nanousd(0) == 1_000 * 3_300 + 11


def test_every_answer_is_paid_for() -> None:
    assert certain(size(answers=3), model()).nanousd(1) == 1000 * 3_000 + 3 * 15_000


@given(
    base=st.integers(0, 10**12),
    token=st.integers(0, 10**9),
    most=st.integers(0, 10**6),
    room=st.integers(0, 10**7),
)
def test_the_tokens_within_an_amount_are_as_many_as_it_pays_for(
    base: int, token: int, most: int, room: int
) -> None:
    line = Bound(base, token, most, most, 0, True)
    tokens = line.tokens_within(room)

    if tokens >= 0:
        assert line.nanousd(tokens) <= room
    else:
        assert line.nanousd(0) > room
    if 0 <= tokens < most:
        assert line.nanousd(tokens + 1) > room


@pytest.mark.parametrize(
    "name", ["gpt-4o-mini", "claude-sonnet-4-5", "gemini/gemini-2.5-pro", "o3", "deepseek/deepseek-chat"]
)
# LiteLLM builds models of its own as it computes the first cost.
@pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning")
@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(0, 300_000),
    cached=st.floats(0, 1),
    written=st.floats(0, 1),
    output=st.integers(0, 8_000),
    reasoning=st.floats(0, 1),
)
def test_litellm_never_bills_more_than_the_bound(
    name: str, tokens: int, cached: float, written: float, output: int, reasoning: float
) -> None:
    """Whatever part of the input was read from or written to a cache, and of the output was thought."""
    read = int(tokens * cached)
    write = int((tokens - read) * written) if name.startswith("claude") else 0
    usage = Usage(
        prompt_tokens=tokens,
        completion_tokens=output,
        total_tokens=tokens + output,
        prompt_tokens_details={"cached_tokens": read},
        completion_tokens_details={"reasoning_tokens": int(output * reasoning)},
        **({"cache_creation_input_tokens": write, "cache_read_input_tokens": read} if write else {}),
    )
    cost = litellm.completion_cost(ModelResponse(model=name, usage=usage), model=name)
    info = litellm.get_model_info(name)
    asked = NOTHING._replace(text_bytes=tokens, has_output=True, max_output_tokens=output)
    found = certain(asked, Model(prices_in(info), None, None))

    assert from_float_usd(cost) <= found.nanousd(output)


@settings(max_examples=100, deadline=None)
@given(
    usd=st.dictionaries(
        st.sampled_from(["input_token", "output_token", "cache_read_token", "cache_write_token", "request"])
        | st.just("output_reasoning_token"),
        st.decimals(0, 1, places=9),
        min_size=1,
    ),
    used=st.tuples(*(st.integers(0, 1_000) for _ in range(5))),
)
def test_the_price_book_never_bills_more_than_the_bound(
    usd: dict[str, Decimal], used: tuple[int, ...]
) -> None:
    tokens, output, read, write, thought = used
    entry = PriceEntry("*", "*", datetime(2026, 1, 1, tzinfo=UTC), None, usd)
    cost = cost_of(entry, Used(tokens + read + write, output + thought, read, write, thought))
    request = size(text_bytes=tokens + read + write, max_output_tokens=output + thought)
    found = bound(request, model()._replace(prices=bounding_prices(entry)))

    if found is not None:
        assert found.nanousd(output + thought) >= cost
    else:
        assert not usd.keys() & {"input_token", "output_token", "request"}


@pytest.mark.parametrize("unit", ["second", "image"])
def test_what_a_book_counts_by_seconds_or_pictures_made_is_not_bounded(unit: str) -> None:
    usd = {"input_token": Decimal("0.001"), unit: Decimal("0.01")}
    entry = PriceEntry("*", "*", datetime(2026, 1, 1, tzinfo=UTC), None, usd)

    assert bound(size(), model()._replace(prices=bounding_prices(entry))) is None
