"""Price books: read exactly, or every problem at once with its line and its fix."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from spendmeter.prices.book import PriceEntry
from spendmeter.prices.file import InvalidPriceBook, read_price_book

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
WHOLE = """
version: 2026-11
prices:
  - provider: hosted_vllm
    model: "llama-3.3-*"
    valid_from: 2026-11-01T00:00:00Z
    valid_to: 2027-01-01T00:00:00+01:00
    usd_per_million_tokens: {input: 0.20, output: "0.60", cache_read: "0.02", cache_write: 0.25, reasoning: 0}
    usd_per: {image: "0.04", second: "0.0001", request: "0.001"}
    override: true
  - model: "*"
    valid_from: 2026-11-01T00:00:00Z
    usd_per: {request: 0}
"""


def one(**changed: str) -> str:
    """A book of one entry, with fields changed."""
    fields = {"model": "m", "valid_from": "2026-11-01T00:00:00Z", "usd_per": "{request: 1}"} | changed
    return "prices:\n  - " + "\n    ".join(f"{name}: {value}" for name, value in fields.items() if value)


def problems(written: str) -> list[tuple[int, str]]:
    with pytest.raises(InvalidPriceBook) as caught:
        read_price_book(written, "prices.yaml")
    return [(line, message) for line, message in caught.value.problems]


def test_every_field_is_read_exactly_as_it_is_written() -> None:
    book = read_price_book(WHOLE, "prices.yaml")
    assert book.version == "2026-11"
    assert book.entries == (
        PriceEntry(
            "hosted_vllm",
            "llama-3.3-*",
            NOVEMBER,
            datetime(2026, 12, 31, 23, tzinfo=UTC),
            {
                "input_token": Decimal("0.00000020"),
                "output_token": Decimal("0.00000060"),
                "cache_read_token": Decimal("0.00000002"),
                "cache_write_token": Decimal("0.00000025"),
                "output_reasoning_token": Decimal(0),
                "image": Decimal("0.04"),
                "second": Decimal("0.0001"),
                "request": Decimal("0.001"),
            },
            override=True,
        ),
        PriceEntry("*", "*", NOVEMBER, None, {"request": Decimal(0)}),
    )


def test_a_book_without_a_version_is_named_by_what_it_says() -> None:
    first, second = read_price_book(one(), "a"), read_price_book(one(usd_per="{request: 2}"), "a")
    assert len(first.version) == 12
    assert first.version != second.version
    assert first.version == read_price_book(one(), "b").version


@pytest.mark.parametrize(
    ("changed", "line", "words"),
    [
        ({"model": ""}, 2, "model is missing"),
        ({"valid_from": ""}, 2, "valid_from is missing"),
        ({"valid_from": "2026-11-01T00:00:00"}, 3, "valid_from: "),
        ({"valid_to": "2026-11-01T00:00:00Z"}, 5, "valid_to is not after valid_from"),
        ({"usd_per": ""}, 2, "there are no prices"),
        ({"usd_per": "{request: -1}"}, 4, "usd_per.request: -1 USD: a price lies between 0 and"),
        ({"usd_per": "{request: 1000001}"}, 4, "a price lies between 0 and"),
        ({"usd_per": "{request: NaN}"}, 4, "a price lies between 0 and"),
        ({"usd_per": "{request: cheap}"}, 4, "not a decimal number of USD"),
        ({"usd_per": "{request: 0.0000000000000000001}"}, 4, "at most 18 decimals"),
        ({"usd_per": "{requests: 1}"}, 4, "did you mean request?"),
        ({"usd_per_million_tokens": "{in: 1}"}, 5, "has no field 'in'"),
        ({"usd_per_million_tokens": "5"}, 5, "is a mapping"),
        ({"override": "perhaps"}, 5, "override: 'perhaps' is not known"),
        ({"provider": '""'}, 5, "provider: is empty"),
        ({"valid_till": "2027-01-01T00:00:00Z"}, 5, "did you mean valid_to?"),
    ],
)
def test_each_problem_is_told_with_its_line_and_its_fix(
    changed: dict[str, str], line: int, words: str
) -> None:
    found = problems(one(**changed))
    assert any(at == line and words in message for at, message in found), found


def test_all_problems_are_told_at_once_and_in_order() -> None:
    written = one(usd_per="{request: -1}") + "\n  - valid_from: never\n    usd_per: {image: x}\n"
    found = problems(written)
    assert [line for line, _ in found] == [4, 5, 5, 6]


def test_two_entries_for_the_same_models_from_the_same_time_are_one_too_many() -> None:
    entry = one().removeprefix("prices:\n")
    assert problems(f"prices:\n{entry}\n{entry}") == [
        (5, "line 2 has prices of the same models from the same time; keep one")
    ]
    later = one(valid_from="2026-12-01T00:00:00Z").removeprefix("prices:\n")
    assert len(read_price_book(f"prices:\n{entry}\n{later}", "p").entries) == 2


@pytest.mark.parametrize("written", ["", "prices: 5", "- a", "{", "price: []", "version: ''\nprices: []"])
def test_what_is_no_price_book_is_told(written: str) -> None:
    assert problems(written)


def test_a_book_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spendmeter.prices.file.MAX_ENTRIES", 1)
    assert read_price_book(one(), "p").entries
    later = one(valid_from="2026-12-01T00:00:00Z").removeprefix("prices:")
    assert problems(one() + later) == [(5, "there are more than 1 entries")]
