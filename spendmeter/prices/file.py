"""Reads price books in YAML, or reports every problem with its line. Pure.

version: 2026-11
prices:
  - provider: hosted_vllm
    model: "llama-3.3-*"
    valid_from: 2026-11-01T00:00:00Z
    usd_per_million_tokens: {input: "0.20", output: "0.60"}
    usd_per: {request: "0.001"}
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256

import yaml

from spendmeter.files.scalars import Wrong, one_of, text, time
from spendmeter.files.yaml import InvalidFile, YamlReader, line_of
from spendmeter.prices.book import PriceBook, PriceEntry

MAX_ENTRIES = 10_000
MAX_USD = Decimal(1_000_000)
MAX_DECIMALS = 18
_VERSION_CHARACTERS = 12
_MAX_VERSION_CHARACTERS = 100

_REQUIRED = {
    "model": 'a name or glob such as "llama-3.3-*"; `*` stands for anything',
    "valid_from": "the time from which the prices hold, such as 2026-11-01T00:00:00Z",
}
_PRICES = ("usd_per_million_tokens", "usd_per")
_FIELDS = (*_REQUIRED, "provider", "valid_to", *_PRICES, "override")
_PER_MILLION = {
    "input": "input_token",
    "output": "output_token",
    "cache_read": "cache_read_token",
    "cache_write": "cache_write_token",
    "reasoning": "output_reasoning_token",
}
_PER = ("image", "second", "request")


class InvalidPriceBook(InvalidFile):
    """The file is not a valid price book; the previous one stays in force."""


def read_price_book(written: str, name: str) -> PriceBook:
    """The price book in a file. `name` is the file's name in messages.

    Raises:
        InvalidPriceBook: anything is wrong with any of it.
    """
    reader = _Reader()
    book = reader.book(written)
    if reader.problems:
        raise InvalidPriceBook(name, reader.problems)
    return book


class _Reader(YamlReader):
    def book(self, written: str) -> PriceBook:
        fields = self.fields(written, ("prices", "version"))
        version = sha256(written.encode()).hexdigest()[:_VERSION_CHARACTERS]
        if "version" in fields:
            version = self._version(fields["version"])
        items = self.sequence(fields["prices"], "prices") if "prices" in fields else []
        if len(items) > MAX_ENTRIES:
            self.report(items[MAX_ENTRIES], f"there are more than {MAX_ENTRIES:,} entries")
        return PriceBook(version, tuple(self._entries(items[:MAX_ENTRIES])))

    def _version(self, node: yaml.Node) -> str:
        try:
            version = text(node)
        except Wrong as wrong:
            self.report(node, f"version: {wrong}")
            return ""
        if not 0 < len(version) <= _MAX_VERSION_CHARACTERS:
            self.report(node, f"version: 1 to {_MAX_VERSION_CHARACTERS} characters, such as 2026-11")
        return version

    def _entries(self, items: list[yaml.Node]) -> Iterator[PriceEntry]:
        lines: dict[tuple[str, str, datetime], int] = {}
        for node in items:
            entry = self._entry(node)
            if entry is None:
                continue
            same = (entry.provider, entry.model, entry.valid_from)
            if same in lines:
                self.report(
                    node, f"line {lines[same]} has prices of the same models from the same time; keep one"
                )
            lines.setdefault(same, line_of(node))
            yield entry

    def _entry(self, node: yaml.Node) -> PriceEntry | None:
        before = len(self.problems)
        nodes = self.mapping(node, "an entry", _FIELDS)
        if not isinstance(node, yaml.MappingNode):
            return None
        for name, hint in _REQUIRED.items():
            if name not in nodes:
                self.report(node, f"{name} is missing: {hint}")
        times: dict[str, datetime] = {}
        words = {"provider": "*", "model": "", "override": "false"}
        for name, value in nodes.items():
            try:
                if name in ("valid_from", "valid_to"):
                    times[name] = time(value)
                elif name == "override":
                    words[name] = one_of(value, ("true", "false"))
                elif name in ("provider", "model"):
                    words[name] = _glob(value)
            except Wrong as wrong:
                self.report(value, f"{name}: {wrong}")
        prices = dict(self._prices(nodes))
        if not prices and len(self.problems) == before:
            self.report(node, f'there are no prices: give {" or ".join(_PRICES)}; "0" makes a model free')
        valid_to = times.get("valid_to")
        if valid_to is not None and "valid_from" in times and valid_to <= times["valid_from"]:
            self.report(nodes["valid_to"], "valid_to is not after valid_from")
        if len(self.problems) > before:
            return None
        return PriceEntry(
            words["provider"],
            words["model"],
            times["valid_from"],
            valid_to,
            prices,
            words["override"] == "true",
        )

    def _prices(self, nodes: dict[str, yaml.Node]) -> Iterator[tuple[str, Decimal]]:
        for where, units in (
            ("usd_per_million_tokens", _PER_MILLION),
            ("usd_per", {unit: unit for unit in _PER}),
        ):
            if where not in nodes:
                continue
            for name, node in self.mapping(nodes[where], where, tuple(units)).items():
                try:
                    usd = _usd(node)
                except Wrong as wrong:
                    self.report(node, f"{where}.{name}: {wrong}")
                    continue
                yield units[name], usd.scaleb(-6) if units is _PER_MILLION else usd


def _glob(node: yaml.Node) -> str:
    written = text(node)
    if not written:
        raise Wrong('is empty; "*" stands for any')
    return written


def _usd(node: yaml.Node) -> Decimal:
    """A price of 0 or more, exactly."""
    written = text(node)
    try:
        usd = Decimal(written)
    except InvalidOperation:
        raise Wrong(f"{written!r} is not a decimal number of USD, such as 0.25") from None
    if not usd.is_finite() or not 0 <= usd <= MAX_USD:
        raise Wrong(f"{written} USD: a price lies between 0 and {MAX_USD:,}")
    if not usd:
        return Decimal(0)
    exponent = usd.as_tuple().exponent
    assert isinstance(exponent, int), "only infinities have none"
    if -exponent > MAX_DECIMALS:
        raise Wrong(f"{written} USD: at most {MAX_DECIMALS} decimals")
    return usd
