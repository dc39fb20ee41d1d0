"""docs/prices.md shows a price book that works."""

import re
from pathlib import Path

from spendmeter.prices.file import read_price_book
from spendmeter_gateway.pricing.price_draft import KNOWN_FOR_SECONDS

PAGE = (Path(__file__).parents[2] / "docs/prices.md").read_text(encoding="utf-8")


def test_the_price_book_on_the_page_is_in_order_and_shows_every_price() -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    book = read_price_book(written, "docs/prices.md")
    assert book.version == "2026-11"
    assert len(book.entries[0].usd_per_unit) == 8
    assert book.entries[1].override


def test_the_page_tells_how_long_a_model_is_known_to_have_no_price() -> None:
    assert f"past {KNOWN_FOR_SECONDS / 60:.0f} minutes" in PAGE
