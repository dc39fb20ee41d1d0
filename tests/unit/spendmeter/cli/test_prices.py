"""`spendmeter prices check`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spendmeter.cli.main import main

BOOK = """version: v7
prices:
  - model: llama-*
    provider: hosted_vllm
    valid_from: 2026-01-01T00:00:00Z
    usd_per_million_tokens: {input: "0.20", reasoning: "1"}
    usd_per: {request: "0.001"}
  - model: llama-*
    provider: hosted_vllm
    valid_from: 2026-06-01T00:00:00Z
    usd_per_million_tokens: {input: "0.10"}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(BOOK)
    return path


def check(*arguments: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["prices", "check", *map(str, arguments)])
    assert result.exit_code == exit_code, result.output
    return result


def test_a_book_in_order_is_shown_by_the_million_as_people_compare_prices(path: Path) -> None:
    shown = check(path).stdout
    assert "version v7, 2 entries" in shown
    assert "0.2 per million input, 1 per million reasoning, 0.001 per request" in shown


@pytest.mark.parametrize(
    ("at", "price"), [("2026-05-31T23:59:59Z", "0.0000002"), ("2026-06-01T00:00:00Z", "0.0000001")]
)
def test_a_model_is_shown_at_the_price_of_the_time(path: Path, at: str, price: str) -> None:
    shown = check(path, "--model", "llama-3", "--provider", "hosted_vllm", "--at", at, "--json").stdout
    (entry,) = json.loads(shown)["prices"]
    assert entry["prices"]["input_token"] == price
    assert entry["prices"]["version"].startswith("pricebook v7 from 2026-")


def test_a_model_without_a_price_exits_1(path: Path) -> None:
    assert "no price for llama-3" in check(path, "--model", "llama-3", exit_code=1).stderr


def test_a_book_that_is_not_in_order_exits_2_with_the_lines(path: Path) -> None:
    path.write_text(BOOK.replace('"0.10"', "cheap"))
    assert f"{path}:11: usd_per_million_tokens.input: 'cheap'" in check(path, exit_code=2).stderr


def test_a_time_without_an_offset_is_refused(path: Path) -> None:
    check(path, "--model", "m", "--at", "2026-06-01T00:00:00", exit_code=2)
