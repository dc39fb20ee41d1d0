"""`spendmeter prices`: checks and shows a price book."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import click

from spendmeter.cli.options import INVALID_FILE, TimeOption, file_argument, json_option, read_file
from spendmeter.cli.printing import clock, print_json, print_table, say, say_lines
from spendmeter.prices.book import ModelNames, PriceBook, PriceEntry
from spendmeter.prices.file import InvalidPriceBook, read_price_book
from spendmeter.values.times import format_time

NO_PRICE = 1


@click.group()
def prices() -> None:
    """Prices of models that no price list knows."""


@prices.command()
@file_argument
@click.option("--model", metavar="NAME", help="Show what this model costs, as LiteLLM calls it.")
@click.option("--provider", default="", metavar="NAME", help="Of the model, such as hosted_vllm.")
@click.option("--at", type=TimeOption(), help="At what time.  [default: now]")
@json_option
def check(file: str, model: str | None, provider: str, at: datetime | None, as_json: bool) -> None:
    """Check the price book FILE, and show its prices.

    Exit 0: the book is valid; 2: it is not, and each problem is listed with its line; 1: it has no price for
    --model at that time.
    """
    written = read_file(file)
    try:
        book = read_price_book(written, file)
    except InvalidPriceBook as error:
        say_lines(str(error), err=True)
        raise SystemExit(INVALID_FILE) from None
    entries: Sequence[PriceEntry] = book.entries
    if model is not None:
        when = at or datetime.now(UTC)
        found = book.find(ModelNames(provider, model, model), when)
        if found is None:
            say(f"no price for {model} at {clock(when)} UTC", err=True)
            raise SystemExit(NO_PRICE)
        entries = [found]
    if as_json:
        return print_json({"version": book.version, "prices": [_as_data(book, entry) for entry in entries]})
    say(f"version {book.version}, {len(book.entries)} entries")
    columns = ("provider", "model", "from (UTC)", "until", "prices in USD", "overrides")
    return print_table(columns, [_as_row(entry) for entry in entries])


def _as_row(entry: PriceEntry) -> tuple[str, ...]:
    return (
        entry.provider,
        entry.model,
        clock(entry.valid_from),
        clock(entry.valid_to),
        ", ".join(_render_price(unit, price) for unit, price in entry.usd_per_unit.items()),
        "yes" if entry.override else "-",
    )


def _render_price(unit: str, price: Decimal) -> str:
    """In the form for comparing prices: per million tokens."""
    if not unit.endswith("_token"):
        return f"{price.normalize():f} per {unit}"
    kind = (
        unit.removeprefix("output_").removesuffix("_token") if unit == "output_reasoning_token" else unit[:-6]
    )
    return f"{price.scaleb(6).normalize():f} per million {kind.replace('_', ' ')}"


def _as_data(book: PriceBook, entry: PriceEntry) -> dict[str, Any]:
    return {
        "provider": entry.provider,
        "model": entry.model,
        "valid_from": format_time(entry.valid_from),
        "valid_to": format_time(entry.valid_to) if entry.valid_to else None,
        "override": entry.override,
        "prices": book.prices_of(entry),
    }
