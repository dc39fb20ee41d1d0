"""Models of the configuration that nothing has a price for: they would count 0 USD."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spendmeter.contract.budget import ANY
from spendmeter.prices.book import ModelNames, PriceBook
from spendmeter.values.models import names_of_model
from spendmeter_doctor.diagnosis import Diagnosis, unchecked, warning
from spendmeter_doctor.litellm_config import ConfiguredModel
from spendmeter_doctor.system import System
from spendmeter_gateway.pricing.price_list import GENAI_PRICES, load_book

_LIST = "model_prices_and_context_window_backup.json"
_SHOWN = 10


def check_prices(system: System) -> list[Diagnosis]:
    """Each deployment beside its own prices, LiteLLM's list, and the price book."""
    if system.config is None:
        return []
    if system.gateway is not None and system.gateway.price_fallback == GENAI_PRICES:
        said = "models without a price were not searched for: genai-prices may know them"
        return [unchecked("prices-fallback", said, "watch `spendmeter_unpriced_total`")]
    listed = read_list()
    if listed is None:
        said = "prices were not checked: LiteLLM and its list are not installed here"
        return [unchecked("prices-not-here", said, "run the doctor with the proxy's Python")]
    book = None
    if system.gateway is not None and system.gateway.pricebook is not None:
        book = load_book(system.gateway.pricebook)
    deployments = list(system.config.deployments())
    found = [one for one in deployments if not _is_priced(one, listed, book)]
    return list(_unpriced(system.config.path.name, found))


def read_list() -> Mapping[str, Any] | None:
    """LiteLLM's own price list, from its installed files; nothing of LiteLLM's runs."""
    spec = find_spec("litellm")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / _LIST
        if path.exists():
            read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return read
    return None


def _is_priced(one: ConfiguredModel, listed: Mapping[str, Any], book: PriceBook | None) -> bool:
    if ANY in one.model or any(
        _is_price(name, value) for name, value in one.fields.items() if value is not None
    ):
        # Behind a wildcard may be any model; a price of the operator's own counts, 0 included.
        return True
    base = one.fields.get("base_model")
    for model in filter(None, (base if isinstance(base, str) else None, one.model)):
        provider, _, rest = model.partition("/")
        names = (model, *names_of_model(rest or model, provider if rest else ""), rest)
        if any(_has_price(listed.get(name)) for name in names if name):
            return True
        found = book and book.find(ModelNames(provider if rest else "", model, one.name), datetime.now(UTC))
        if found:
            return True
    return False


def _has_price(entry: object) -> bool:
    return isinstance(entry, Mapping) and any(
        value and _is_price(name, value) for name, value in entry.items()
    )


def _is_price(name: str, value: object) -> bool:
    return "cost_per" in name and isinstance(value, int | float | str)


def _unpriced(file: str, found: Sequence[ConfiguredModel]) -> Iterator[Diagnosis]:
    if not found:
        return
    shown = ", ".join(f"{one.model} ({file}:{one.line})" for one in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    provider, _, rest = found[0].model.partition("/")
    entry = f'{{provider: {provider}, model: "{rest}"' if rest else f'{{model: "{provider}"'
    yield warning(
        "model-without-price",
        f"nothing has a price for {shown}{more}: what they serve counts 0 USD in every budget",
        "`input_cost_per_token` and `output_cost_per_token` in `litellm_params`, or in the file that"
        f" SPENDMETER_PRICEBOOK names (docs/prices.md): `- {entry}, valid_from:"
        f" {datetime.now(UTC):%Y-%m-%d}T00:00:00Z,"
        ' usd_per_million_tokens: {input: "…", output: "…"}}`',
    )
