"""Money: exact from text, once from LiteLLM's float, and back to text as people write it."""

from decimal import Decimal, localcontext

import pytest

from spendmeter.contract.money import InvalidAmount, NanoUsd, format_usd, from_float_usd, from_usd, to_usd


class Labelled(float):
    """A float that prints itself otherwise, as numpy's float64 does."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("0", 0),
        ("-0", 0),
        ("12", 12_000_000_000),
        ("0.000000001", 1),
        ("-0.000000001", -1),
        ("1e-9", 1),
        ("999999999.999999999", 10**18 - 1),
        ("-999999999.999999999", -(10**18) + 1),
        (Decimal("0.25"), 250_000_000),
        (3, 3_000_000_000),
    ],
)
def test_an_amount_of_usd_is_read_exactly(usd: Decimal | str | int, nano: int) -> None:
    assert from_usd(usd) == nano


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("0.0000000005", 0),
        ("0.00000000050000000000000000000000000000000001", 1),
        ("0.00000000049999999999999999999999999999999999", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000250000000000000000000000000000000001", 3),
        ("-0.0000000005", 0),
        ("-0.0000000015", -2),
        ("999999998.9999999995", 999_999_999 * 10**9),
    ],
)
def test_half_a_nano_is_rounded_to_the_even_one(usd: str, nano: int) -> None:
    assert from_usd(usd) == nano


@pytest.mark.parametrize(
    ("usd", "told"),
    [
        ("abc", "'abc' is not a decimal number of USD, such as 0.25"),
        ("", "'' is not a decimal number of USD, such as 0.25"),
        ("NaN", "'NaN' is not a finite number of USD"),
        ("sNaN", "'sNaN' is not a finite number of USD"),
        ("-Infinity", "'-Infinity' is not a finite number of USD"),
        ("1000000000", "1000000000 USD is beyond the largest amount we hold (999999999.999999999)"),
        ("999999999.9999999991", "999999999.9999999991 USD is beyond"),
        ("-999999999.9999999991", "-999999999.9999999991 USD is beyond"),
        ("1e999999999", "1e999999999 USD is beyond"),
        ("-1e999999999", "-1e999999999 USD is beyond"),
    ],
)
def test_what_is_no_amount_is_refused_and_named(usd: str, told: str) -> None:
    with pytest.raises(InvalidAmount) as refused:
        from_usd(usd)

    assert str(refused.value).startswith(told)


def test_an_amount_smaller_than_any_exponent_is_nothing() -> None:
    assert from_usd("1e-999999999") == 0


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        (1.05e-05, 10_500),
        (0.1 + 0.2, 300_000_000),
        (0.1, 100_000_000),
        # The float lies below 2.5 nano, its shortest form on it: the form decides, half to even.
        (2.5e-9, 2),
        (3.5e-9, 4),
        (5e-324, 0),
        (-1.5e-05, -15_000),
        (Labelled(1.05e-05), 10_500),
    ],
)
def test_a_float_means_its_shortest_decimal_form(usd: float, nano: int) -> None:
    assert from_float_usd(usd) == nano


@pytest.mark.parametrize("usd", [float("nan"), float("inf"), float("-inf"), 1e9, 1.7e308])
def test_a_float_that_is_no_amount_is_refused(usd: float) -> None:
    with pytest.raises(InvalidAmount):
        from_float_usd(usd)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (1_000_000, "0.001"),
        (12_000_000_000, "12"),
        (100_000_000_000, "100"),
        (-500_000_000, "-0.5"),
        (10**18 - 1, "999999999.999999999"),
        (10**18, "1000000000"),
    ],
)
def test_an_amount_is_written_as_people_write_it(nano: int, text: str) -> None:
    assert format_usd(NanoUsd(nano)) == text


def test_an_amount_in_usd_has_nine_places() -> None:
    assert str(to_usd(NanoUsd(1_500_000_000))) == "1.500000000"


def test_a_sum_beyond_28_digits_is_written_exactly() -> None:
    many = NanoUsd(10**30 + 1)

    assert (to_usd(many), format_usd(many)) == (
        Decimal("1000000000000000000000.000000001"),
        "1000000000000000000000.000000001",
    )


def test_a_callers_decimal_context_changes_no_amount() -> None:
    with localcontext() as context:
        context.prec = 3

        assert (from_usd("123456.789012345"), format_usd(NanoUsd(123_456_789_012_345))) == (
            123_456_789_012_345,
            "123456.789012345",
        )
