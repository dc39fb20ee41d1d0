"""Which entry counts for a model at a time, and what it makes of what was used."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from spendmeter.contract.money import InvalidAmount
from spendmeter.prices import book as price_book
from spendmeter.prices.book import ModelNames, PriceBook, PriceEntry, Used, cost_of

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
LLAMA = ModelNames("hosted_vllm", "hosted_vllm/llama-3.3-70b", "house-llama")


def entry(
    usd: str = "1",
    model: str = "llama-*",
    *,
    provider: str = "*",
    valid_from: datetime = JANUARY,
    valid_to: datetime | None = None,
) -> PriceEntry:
    return PriceEntry(provider, model, valid_from, valid_to, {"request": Decimal(usd)})


def found(*entries: PriceEntry, at: datetime = JUNE, model: ModelNames = LLAMA) -> str | None:
    entry = PriceBook("1", entries).find(model, at)
    return None if entry is None else str(entry.usd_per_unit["request"])


@pytest.mark.parametrize(
    "glob", ["llama-*", "hosted_vllm/*", "hosted_vllm/llama-3.3-70b", "house-llama", "*"]
)
def test_a_model_is_found_with_and_without_its_provider_and_as_requested(glob: str) -> None:
    assert found(entry(model=glob)) == "1"


@pytest.mark.parametrize("glob", ["llama", "Llama-*", "house", "*-7b"])
def test_another_model_is_not(glob: str) -> None:
    assert found(entry(model=glob)) is None


def test_a_provider_may_be_named() -> None:
    assert found(entry(provider="hosted_*")) == "1"
    assert found(entry(provider="openai")) is None


@pytest.mark.parametrize(
    ("at", "price"), [(JANUARY - TICK, None), (JANUARY, "1"), (JUNE - TICK, "1"), (JUNE, None)]
)
def test_prices_hold_from_their_first_moment_until_before_their_end(at: datetime, price: str | None) -> None:
    assert found(entry(valid_to=JUNE), at=at) == price


def test_of_the_same_globs_the_one_that_began_last_counts_whatever_the_order() -> None:
    old, new = entry("1"), entry("2", valid_from=JUNE)
    assert found(old, new, at=JUNE - TICK) == found(new, old, at=JUNE - TICK) == "1"
    assert found(old, new) == found(new, old) == "2"


def test_of_different_globs_the_first_in_the_book_counts_however_old() -> None:
    assert found(entry("1"), entry("2", "*", valid_from=JUNE)) == "1"
    assert found(entry("2", "*", valid_from=JUNE), entry("1")) == "2"
    assert found(entry("1", valid_to=JUNE), entry("2", "*")) == "2", "the first has ended"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_book, "MAX_REMEMBERED_MODELS", 2)
    book = PriceBook("1", (entry(model="*"),))
    for n in range(5):
        assert book.find(ModelNames("", f"m{n}", ""), JUNE)
    assert len(book._fitting) <= 2


def test_each_unit_is_counted_at_its_price() -> None:
    prices = {
        "input_token": "0.000001",
        "output_token": "0.000010",
        "cache_read_token": "0.0000001",
        "cache_write_token": "0.000002",
        "output_reasoning_token": "0.00002",
        "image": "0.04",
        "second": "0.003",
        "request": "0.5",
    }
    used = Used(100, 50, 30, 20, 10, images=2, duration_ms=1_500)
    whole = PriceEntry("*", "*", JANUARY, None, {unit: Decimal(usd) for unit, usd in prices.items()})
    tokens = 50 * 1_000 + 30 * 100 + 20 * 2_000 + 40 * 10_000 + 10 * 20_000
    assert cost_of(whole, used) == tokens + 80_000_000 + 4_500_000 + 500_000_000


def test_cached_input_and_reasoning_without_prices_of_their_own_cost_as_what_they_are_part_of() -> None:
    plain = PriceEntry(
        "*", "*", JANUARY, None, {"input_token": Decimal("1e-9"), "output_token": Decimal("1e-8")}
    )
    assert cost_of(plain, Used(100, 50, 30, 20, 10)) == 100 + 50 * 10


def test_a_sum_is_rounded_once_half_to_even() -> None:
    half = PriceEntry(
        "*", "*", JANUARY, None, {"input_token": Decimal("0.5e-9"), "output_token": Decimal("0.5e-9")}
    )
    assert cost_of(half, Used(1, 1)) == 1, "two halves are one, not two noughts"
    assert [cost_of(half, Used(n)) for n in (1, 2, 3)] == [0, 1, 2]


def test_counts_that_contradict_one_another_never_make_a_negative_cost() -> None:
    one = PriceEntry("*", "*", JANUARY, None, {"input_token": Decimal(1), "cache_read_token": Decimal(0)})
    assert cost_of(one, Used(input_tokens=5, cache_read_tokens=9, reasoning_tokens=3)) == 0


def test_an_amount_beyond_what_we_hold_is_refused() -> None:
    dear = PriceEntry("*", "*", JANUARY, None, {"input_token": Decimal(1_000_000)})
    with pytest.raises(InvalidAmount):
        cost_of(dear, Used(2**53))
