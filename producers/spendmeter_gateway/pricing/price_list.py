"""The gateway's price lists: the operator's book, read again when its file changes, and a fallback."""

import asyncio
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge

from spendmeter.contract.money import from_usd
from spendmeter.files.text import UnreadableFile, read_text_file
from spendmeter.prices.book import ModelNames, PriceBook, Used
from spendmeter.prices.file import InvalidPriceBook, read_price_book
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.pricing.price_draft import Fallback, Priced, priced

log = logging.getLogger(__name__)

REFUSED = Counter("spendmeter_price_book_refused_total", "Edits of the price book that could not be used.")
ENTRIES = Gauge("spendmeter_price_book_entries", "Entries of the price book in force.")

POLL_SECONDS = 5.0
GENAI_PRICES = "genai-prices"
_Signature = tuple[int, int, int]
_GONE: _Signature = (0, 0, 0)


class UnusablePriceList(ValueError):
    """The price list in the settings cannot be used; the message says why."""


class PriceList:
    """Prices drafts. `apply` may be called from any thread while `follow` runs in another."""

    def __init__(self, path: Path | None, fallback: Fallback | None, on_change: Callable[[], None]) -> None:
        """Reads the book at once; an unusable one is logged, and prices nothing until it is corrected."""
        self._path = path
        self._fallback = fallback
        self._on_change = on_change
        self._signature: _Signature | None = None
        self.book: PriceBook | None = None
        """In force now."""
        self.refresh()

    def apply(self, draft: UsageDraft) -> UsageDraft:
        """The draft with a price, if a list here has one for it."""
        if self.book is None and self._fallback is None:
            return draft
        return priced(draft, self.book, self._fallback)

    async def follow(self) -> None:
        """Follow changes of the file, for ever."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the file again if it has changed. A fault is logged once; the book in force stays."""
        if self._path is None:
            return
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            book = load_book(self._path)
        except UnusablePriceList as problem:
            REFUSED.inc()
            log.error("the price book in force stays, because the new one cannot be used:\n%s", problem)
            return
        self.book = book
        self._on_change()
        ENTRIES.set(len(book.entries))
        log.info("price book %s is in force: %d entries", book.version, len(book.entries))


def load_book(path: Path) -> PriceBook:
    """Read the file. Raises UnusablePriceList."""
    try:
        return read_price_book(read_text_file(path), str(path))
    except (UnreadableFile, InvalidPriceBook) as error:
        raise UnusablePriceList(str(error)) from None


def _signature(path: Path) -> _Signature:
    """What changes when a file does."""
    try:
        found = path.stat()
    except OSError:
        return _GONE
    return found.st_mtime_ns, found.st_size, found.st_ino


def has_genai_prices() -> bool:
    """Whether the library is installed (our extra `prices`)."""
    return importlib.util.find_spec("genai_prices") is not None


def fallback(name: str) -> Fallback | None:
    """The fallback named in the settings."""
    return genai_prices() if name == GENAI_PRICES else None


def genai_prices() -> Fallback:
    """Prices from the snapshot in the installed genai-prices; nothing is fetched.

    Only if it knows the provider: the same model costs something else at another provider. The import needs
    a second, so it happens here and not when the first request is recorded.
    """
    library: Any = importlib.import_module("genai_prices")
    version = f"{GENAI_PRICES} {importlib.metadata.version(GENAI_PRICES)}"

    def lookup(model: ModelNames, used: Used, at: datetime) -> Priced | None:
        usage = library.Usage(
            input_tokens=used.input_tokens,
            cache_write_tokens=used.cache_write_tokens,
            cache_read_tokens=used.cache_read_tokens,
            output_tokens=used.output_tokens,
        )
        if not model.provider or not (used.input_tokens or used.output_tokens):
            return None
        for name in model.names():
            try:
                found = library.calc_price(
                    usage, name, provider_id=model.provider, genai_request_timestamp=at
                )
            except LookupError:
                continue
            except Exception:
                # The bug is not ours, and the event must be recorded, priced or not.
                log.exception("%s failed for model %s", version, name)
                return None
            return Priced(
                from_usd(found.total_price), {**_unit_prices(found.model_price), "version": version}
            )
        return None

    return lookup


_PER_MILLION = {
    "input_mtok": "input_token",
    "output_mtok": "output_token",
    "cache_read_mtok": "cache_read_token",
    "cache_write_mtok": "cache_write_token",
}


def _unit_prices(model_price: Any) -> dict[str, str]:
    """Prices that are one number; for a price in tiers only the version is given."""
    prices = {}
    for theirs, ours in _PER_MILLION.items():
        price = getattr(model_price, theirs, None)
        if isinstance(price, Decimal):
            prices[ours] = f"{price.scaleb(-6).normalize():f}"
    return prices
