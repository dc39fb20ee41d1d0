"""Laws of money: exact there and back, within half a nano from anything else."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.money import (
    LIMIT_OF_AMOUNTS_NANOUSD,
    NanoUsd,
    format_usd,
    from_float_usd,
    from_usd,
    to_usd,
)

amounts = st.integers(-LIMIT_OF_AMOUNTS_NANOUSD, LIMIT_OF_AMOUNTS_NANOUSD).map(NanoUsd)


@given(amounts)
def test_an_amount_survives_usd_and_its_text(amount: NanoUsd) -> None:
    assert from_usd(to_usd(amount)) == amount
    assert from_usd(format_usd(amount)) == amount


@given(amounts)
def test_the_text_of_an_amount_is_the_shortest_without_an_exponent(amount: NanoUsd) -> None:
    text = format_usd(amount)

    assert set(text) <= set("-0123456789.")
    assert "." not in text or text[-1] in "123456789"


@given(st.decimals(-999_999_999, 999_999_999, allow_nan=False))
def test_rounding_moves_an_amount_by_at_most_half_a_nano(usd: Decimal) -> None:
    assert abs(Fraction(usd) * 10**9 - from_usd(usd)) <= Fraction(1, 2)


@given(st.integers(-(10**17), 10**17))
def test_exactly_half_goes_to_the_even_neighbour(nano: int) -> None:
    rounded = from_usd(Decimal(nano * 10 + 5).scaleb(-10))

    assert rounded % 2 == 0
    assert rounded in (nano, nano + 1)


@given(st.floats(-999_999_999, 999_999_999))
def test_a_float_is_worth_what_it_prints(usd: float) -> None:
    assert from_float_usd(usd) == from_usd(repr(usd))


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_a_price_of_up_to_fifteen_digits_survives_being_a_float(nano: int) -> None:
    assert from_float_usd(float(to_usd(NanoUsd(nano)))) == nano
