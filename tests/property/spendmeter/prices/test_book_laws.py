"""A price is what arithmetic says, to the last digit, whatever the counts and prices."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.prices.book import PriceBook, PriceEntry, Used, cost_of
from spendmeter.prices.file import read_price_book

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
prices = st.decimals(0, 1000, allow_nan=False, places=18).map(lambda usd: usd.copy_abs())
counts = st.integers(0, 10**4)


@given(prices, prices, prices, prices, counts, counts, counts, st.integers(0, 10**6))
def test_the_cost_is_the_exact_sum_rounded_once(
    per_input: Decimal,
    per_output: Decimal,
    per_cached: Decimal,
    per_second: Decimal,
    given_tokens: int,
    output: int,
    cached: int,
    duration_ms: int,
) -> None:
    units = {
        "input_token": per_input,
        "output_token": per_output,
        "cache_read_token": per_cached,
        "second": per_second,
    }
    used = Used(given_tokens + cached, output, cached, duration_ms=duration_ms)
    exact = (
        given_tokens * Fraction(per_input)
        + output * Fraction(per_output)
        + cached * Fraction(per_cached)
        + Fraction(duration_ms, 1000) * Fraction(per_second)
    )
    assert cost_of(PriceEntry("*", "*", JANUARY, None, units), used) == round(exact * 10**9)


@given(prices, counts)
def test_an_event_tells_prices_from_which_its_cost_can_be_recomputed(per_input: Decimal, tokens: int) -> None:
    entry = PriceEntry("*", "*", JANUARY, None, {"input_token": per_input})
    told = PriceBook("1", (entry,)).prices_of(entry)
    assert cost_of(entry, Used(tokens)) == round(Fraction(told["input_token"]) * tokens * 10**9)


@given(st.decimals(0, 10**6, allow_nan=False, places=12).map(lambda usd: usd.copy_abs()))
def test_a_price_per_million_loses_no_digit_on_its_way_from_the_file(usd: Decimal) -> None:
    written = (
        "prices:\n  - model: m\n    valid_from: 2026-01-01T00:00:00Z\n"
        f'    usd_per_million_tokens: {{input: "{usd:f}"}}\n'
    )
    (entry,) = read_price_book(written, "p").entries
    assert Fraction(entry.usd_per_unit["input_token"]) * 10**6 == Fraction(usd)
