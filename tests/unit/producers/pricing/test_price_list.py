"""The price book of a running gateway: a good edit counts, a bad one is told and changes nothing."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from spendmeter.contract.usage import CostSource
from spendmeter.prices.book import ModelNames, Used
from spendmeter.settings import load
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.pricing.price_list import PriceList, genai_prices
from spendmeter_gateway.settings import GatewaySettings

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BOOK = "prices:\n  - {{model: house, valid_from: 2026-01-01T00:00:00Z, usd_per: {{request: {usd}}}}}\n"
DRAFT = UsageDraft(
    {"occurred_at": NOON, "model": "house", "cost_source": CostSource.UNPRICED, "cost_nanousd": 0}
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(BOOK.format(usd=1))
    return path


def price_list(path: Path | None, on_change: Callable[[], None] = lambda: None) -> PriceList:
    return PriceList(path, None, on_change)


def usd(prices: PriceList) -> int | None:
    fields = prices.apply(DRAFT).fields
    return None if fields["cost_source"] is CostSource.UNPRICED else fields["cost_nanousd"] // 10**9


def refused() -> float:
    return REGISTRY.get_sample_value("spendmeter_price_book_refused_total") or 0.0


def test_a_changed_file_counts_from_the_next_look_on(path: Path) -> None:
    changes: list[None] = []
    prices = price_list(path, lambda: changes.append(None))
    assert usd(prices) == 1
    told = len(changes)
    prices.refresh()
    assert len(changes) == told, "nothing has changed"
    path.write_text(BOOK.format(usd=20))
    prices.refresh()
    assert usd(prices) == 20
    assert len(changes) == told + 1


def test_a_bad_edit_is_told_once_with_its_line_and_the_book_in_force_stays(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prices = price_list(path)
    before = refused()
    path.write_text(BOOK.format(usd="cheap"))
    with caplog.at_level(logging.ERROR):
        prices.refresh()
        prices.refresh()
    assert usd(prices) == 1
    assert refused() - before == 1
    assert [f"{path}:2: " in record.getMessage() for record in caplog.records] == [True]
    path.write_text(BOOK.format(usd=300))
    prices.refresh()
    assert usd(prices) == 300


def test_a_file_that_went_away_is_told_once_and_counts_again_when_it_is_back(path: Path) -> None:
    prices = price_list(path)
    before = refused()
    path.unlink()
    prices.refresh()
    prices.refresh()
    assert (usd(prices), refused() - before) == (1, 1)
    path.write_text(BOOK.format(usd=20))
    prices.refresh()
    assert usd(prices) == 20


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    prices = price_list(path)
    path.write_bytes(b"\xff\xfe")
    prices.refresh()
    assert usd(prices) == 1


def test_without_a_book_nothing_is_priced() -> None:
    assert price_list(None).apply(DRAFT) is DRAFT


def test_a_gateway_does_not_start_with_a_book_that_cannot_be_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPENDMETER_PRICEBOOK", str(path))
    assert load(GatewaySettings).pricebook == path
    path.write_text(BOOK.format(usd="cheap"))
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert f"{path}:2: usd_per.request: 'cheap'" in capsys.readouterr().err
    monkeypatch.setenv("SPENDMETER_PRICEBOOK", str(path.with_name("none.yaml")))
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert "cannot be read" in capsys.readouterr().err


def test_a_fallback_that_is_not_installed_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPENDMETER_PRICE_FALLBACK", "genai-prices")
    monkeypatch.setattr("spendmeter_gateway.settings.has_genai_prices", lambda: False)
    with pytest.raises(SystemExit):
        load(GatewaySettings)
    assert "pip install genai-prices" in capsys.readouterr().err


def test_genai_prices_knows_the_models_of_known_providers_only() -> None:
    pytest.importorskip("genai_prices")
    look_up = genai_prices()
    used = Used(input_tokens=1_000_000, output_tokens=1_000_000, cache_read_tokens=500_000)
    found = look_up(ModelNames("openai", "openai/gpt-4o-mini", "mini"), used, NOON)
    assert found is not None
    assert found.prices["version"].startswith("genai-prices ")
    unit = {name: Decimal(found.prices[name]) for name in ("input_token", "cache_read_token", "output_token")}
    exact = 500_000 * (unit["input_token"] + unit["cache_read_token"]) + 1_000_000 * unit["output_token"]
    assert found.amount == exact * 10**9
    assert look_up(ModelNames("openai", "openai/house-9b", "house"), used, NOON) is None
    assert look_up(ModelNames("nobody", "gpt-4o-mini", ""), used, NOON) is None
    assert look_up(ModelNames("", "gpt-4o-mini", ""), used, NOON) is None
